// The probability of one token against another: a workgroup takes eight rows, eight lanes each. Twin of two_token.rs.

struct Params { n_rows: u32, n_cols: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> hidden: array<f32>;
@group(0) @binding(2) var<storage, read> gap: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

const LANES = 8u;
const ROWS = 8u;
const BLOCK = 64u; // elements a lane sums before the sum moves on
const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) own: u32) {
    let row = group.x * ROWS + own / LANES;
    let lane = own % LANES;
    let first = row * params.n_cols;
    // lanes past the last row still meet the barriers
    let n_cols = select(0u, params.n_cols, row < params.n_rows);
    var sum = 0.0;
    for (var start = lane; start < n_cols; start += BLOCK * LANES) {
        var block = 0.0;
        for (var i = start; i < min(start + BLOCK * LANES, n_cols); i += LANES) {
            block += hidden[first + i] * gap[i];
        }
        sum += block;
    }
    sums[own] = sum;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half { sums[own] += sums[own + half]; }
        workgroupBarrier();
    }
    if lane == 0u && row < params.n_rows {
        let z = sums[own];
        let small = select(exp(max(-abs(z), -87.0)), 0.0, abs(z) > 87.0);
        let p = select(1.0, small, z < 0.0) / (1.0 + small);
        // told by its bits, since WGSL lets a compiler assume there are no infinities
        out[row] = select(bitcast<u32>(p), NAN, (bitcast<u32>(z) & EXPONENT) == EXPONENT);
    }
}
