// Sums of random features over some columns: an invocation makes the weights of one feature and takes eight rows. Twin of random_features.rs and
// normal.rs.

struct Params { n_rows: u32, n_cols: u32, n_features: u32, first: u32, k0: u32, k1: u32, n_wide: u32, block: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> quantiles: array<u32>; // by the chance of something further out, in units of 2^-20
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

// both halves of a product, high and low
fn product(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let other = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>(a1 * b1 + (middle >> 16u) + (other >> 16u), a * b);
}

fn philox(first: u32, second: u32) -> vec4<u32> {
    var words = vec4<u32>(first, second, 0u, 0u);
    var k0 = params.k0;
    var k1 = params.k1;
    for (var round = 0u; round < 10u; round++) {
        let a = product(words.x, 0xD2511F53u);
        let b = product(words.z, 0xCD9E8D57u);
        words = vec4<u32>(b.x ^ words.y ^ k0, b.y, a.x ^ words.w ^ k1, a.y);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return words;
}

fn normal(word: u32) -> f32 {
    let chance = (word << 1u) | 1u;
    let zeros = countLeadingZeros(chance);
    let place = chance << zeros;
    let at = (31u - zeros) * 32u + ((place >> 26u) & 31u);
    let within = (place >> 10u) & 0xffffu;
    let far = quantiles[at];
    let near = quantiles[at + 1u];
    let distance = f32(far - (((far - near) * within) >> 16u)) * (1.0 / 1048576.0);
    return bitcast<f32>(bitcast<u32>(distance) | (word & 0x80000000u));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) own: u32) {
    let feature = (group.x % params.n_wide) * 64u + own;
    let first = (group.x / params.n_wide) * 8u;
    if feature >= params.n_features { return; }
    let n_rows = min(8u, params.n_rows - first);
    var sums = array<f32, 8>();
    for (var start = 0u; start < params.n_cols; start += 4u) {
        let words = philox(params.first + feature, params.block + start / 4u);
        for (var i = 0u; i < min(4u, params.n_cols - start); i++) {
            let weight = normal(words[i]);
            for (var row = 0u; row < n_rows; row++) {
                sums[row] += weight * x[(first + row) * params.n_cols + start + i];
            }
        }
    }
    for (var row = 0u; row < n_rows; row++) {
        out[(first + row) * params.n_features + feature] = sums[row];
    }
}
