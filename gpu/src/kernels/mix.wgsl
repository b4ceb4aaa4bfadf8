// Weighted sums of arrays, bit for bit. Twin of mix.rs, which states the definition.
//
// Fused multiply-adds in integers: nothing here is left to how a device rounds, fuses or treats denormals. 64-bit numbers are
// (low, high). One invocation is one element of one mixture.

struct Params { n_arrays: u32, array_len: u32, start: u32, len: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
// [n_arrays, array_len]
@group(0) @binding(1) var<storage, read> arrays: array<u32>;
// [mixtures, n_arrays]
@group(0) @binding(2) var<storage, read> weights: array<u32>;
// [mixtures, len]
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

const SIGN = 0x80000000u;
const MAGNITUDE = 0x7fffffffu;
const INFINITY = 0x7f800000u;
// for the host to compute: an infinity or NaN came in
const DEFERRED = 0x7fc0ffffu;

// m * 2^e, with 2^23 <= m < 2^24, or m = 0
struct Number { m: u32, e: i32 }

fn unpack(bits: u32) -> Number {
    let field = (bits >> 23u) & 0xffu;
    let fraction = bits & 0x7fffffu;
    if field != 0u {
        return Number(fraction | 0x800000u, i32(field) - 150);
    }
    let shift = countLeadingZeros(fraction) - 8u;
    return Number(fraction << shift, -149 - i32(shift));
}

// the product of two numbers below 2^24
fn times(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let b0 = b & 0xffffu;
    let middle = a0 * (b >> 16u) + (a >> 16u) * b0;
    let first = a0 * b0;
    let low = first + (middle << 16u);
    return vec2<u32>(low, (a >> 16u) * (b >> 16u) + (middle >> 16u) + select(0u, 1u, low < first));
}

fn add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn subtract(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn is_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// 0 <= n < 64
fn left(a: vec2<u32>, n: u32) -> vec2<u32> {
    if n == 0u {
        return a;
    }
    if n >= 32u {
        return vec2<u32>(0u, a.x << (n - 32u));
    }
    return vec2<u32>(a.x << n, (a.y << n) | (a.x >> (32u - n)));
}

// 0 <= n < 64
fn right(a: vec2<u32>, n: u32) -> vec2<u32> {
    if n == 0u {
        return a;
    }
    if n >= 32u {
        return vec2<u32>(a.y >> (n - 32u), 0u);
    }
    return vec2<u32>((a.x >> n) | (a.y << (32u - n)), a.y >> n);
}

// to the right; the last bit says whether anything was lost
fn jam(a: vec2<u32>, n: u32) -> vec2<u32> {
    if n == 0u {
        return a;
    }
    if n >= 64u {
        return vec2<u32>(select(0u, 1u, (a.x | a.y) != 0u), 0u);
    }
    let lost = left(a, 64u - n);
    let kept = right(a, n);
    return vec2<u32>(kept.x | select(0u, 1u, (lost.x | lost.y) != 0u), kept.y);
}

// s * 2^e as f32, to nearest even; 0 < s < 2^63
fn pack(sign: u32, s: vec2<u32>, e: i32) -> u32 {
    let top = i32(select(31u - countLeadingZeros(s.x), 63u - countLeadingZeros(s.y), s.y != 0u));
    let field = top + e + 127;
    if field >= 255 {
        return sign | INFINITY;
    }
    // the last place is 2^23 below the top, or that of denormals
    let n = max(top - 23, -149 - e);
    var m = 0u;
    if n <= 0 {
        m = left(s, u32(-n)).x;
    } else if n < 64 {
        m = right(s, u32(n)).x;
        let lost = left(s, u32(64 - n));
        if lost.y > SIGN || (lost.y == SIGN && (lost.x != 0u || (m & 1u) == 1u)) {
            m += 1u;
        }
    }
    // the leading bit, where there is one, adds the last unit of the exponent; so does a carry
    return sign | ((u32(max(field, 1) - 1) << 23u) + m);
}

// w * x + sum, rounded once
fn fused(w: u32, x: u32, sum: u32) -> u32 {
    if (x & INFINITY) == INFINITY || (sum & INFINITY) == INFINITY {
        return DEFERRED;
    }
    let sign = (w ^ x) & SIGN;
    if (w & MAGNITUDE) == 0u || (x & MAGNITUDE) == 0u {
        return select(sum, sign & sum, (sum & MAGNITUDE) == 0u);
    }
    let a = unpack(w);
    let b = unpack(x);
    // from 2^60 to 2^62
    var p = left(times(a.m, b.m), 14u);
    var e = a.e + b.e - 14;
    if (sum & MAGNITUDE) == 0u {
        return pack(sign, p, e);
    }
    // from 2^61 to 2^62
    let c = unpack(sum);
    var q = vec2<u32>(0u, c.m << 6u);
    let q_e = c.e - 38;
    // nothing is lost where the two are close enough to cancel
    if e >= q_e {
        q = jam(q, u32(e - q_e));
    } else {
        p = jam(p, u32(q_e - e));
        e = q_e;
    }
    if sign == (sum & SIGN) {
        return pack(sign, add(p, q), e);
    }
    if all(p == q) {
        return 0u;
    }
    if is_less(p, q) {
        return pack(sum & SIGN, subtract(q, p), e);
    }
    return pack(sign, subtract(p, q), e);
}

@compute @workgroup_size(256)
fn mix(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.total {
        return;
    }
    let mixture = id.x / params.len;
    let at = params.start + id.x % params.len;
    var sum = 0u;
    for (var i = 0u; i < params.n_arrays; i++) {
        sum = fused(weights[mixture * params.n_arrays + i], arrays[i * params.array_len + at], sum);
    }
    out[id.x] = sum;
}
