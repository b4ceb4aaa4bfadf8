// Weighted sums of two arrays, bit for bit. Twin of interpolate.rs, which states the definition and the two traps.
//
// Four f32 or eight bf16 an invocation. Arrays are read as bits; NaN and denormals are told by their bits.

struct Params { w0: f32, w1: f32, zero: u32, n_vectors: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x0: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x1: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;

const MAGNITUDE = vec4<u32>(0x7fffffffu);
const SIGN = vec4<u32>(0x80000000u);
const MIN_NORMAL = vec4<u32>(0x00800000u);
const INFINITY = vec4<u32>(0x7f800000u);
const NAN = vec4<u32>(0x7fc00000u);
// rounds to 7fc1 as bf16, where NAN rounds to 7fc0
const DEFERRED = vec4<u32>(0x7fc0ffffu);
const ZERO = vec4<u32>(0u);

// the product's bits; the exclusive or keeps the compiler from fusing it into the sum
fn product(w: f32, x: vec4<u32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(w * bitcast<vec4<f32>>(x)) ^ vec4<u32>(params.zero);
}

// where a denormal operand or product may have been flushed
fn lost(w: f32, x: vec4<u32>, p: vec4<u32>) -> vec4<bool> {
    return vec4<bool>(w != 0.0) & ((x & MAGNITUDE) != ZERO) & ((p & MAGNITUDE) < MIN_NORMAL);
}

// the bits of w0 * a + w1 * b
fn weigh(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let p0 = product(params.w0, a);
    let p1 = product(params.w1, b);
    let y = bitcast<vec4<u32>>(bitcast<vec4<f32>>(p0) + bitcast<vec4<f32>>(p1));
    let cancelled = ((y & MAGNITUDE) < MIN_NORMAL) & (p0 != (p1 ^ SIGN)) & (((p0 | p1) & MAGNITUDE) != ZERO);
    let deferred = lost(params.w0, a, p0) | lost(params.w1, b, p1) | cancelled;
    return select(select(y, NAN, (y & MAGNITUDE) > INFINITY), DEFERRED, deferred);
}

@compute @workgroup_size(64)
fn interpolate_f32(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.n_vectors {
        out[id.x] = weigh(x0[id.x], x1[id.x]);
    }
}

// f32 bits to bf16 bits, to nearest even
fn round_bf16(y: vec4<u32>) -> vec4<u32> {
    return (y + vec4<u32>(0x7fffu) + ((y >> vec4<u32>(16u)) & vec4<u32>(1u))) >> vec4<u32>(16u);
}

@compute @workgroup_size(64)
fn interpolate_bf16(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.n_vectors {
        let a = x0[id.x];
        let b = x1[id.x];
        let high = vec4<u32>(0xffff0000u);
        let shift = vec4<u32>(16u);
        let even = weigh(a << shift, b << shift);
        let odd = weigh(a & high, b & high);
        out[id.x] = round_bf16(even) | (round_bf16(odd) << shift);
    }
}
