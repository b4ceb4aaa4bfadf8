// Entropic mean: a workgroup takes eight rows, eight lanes each. Twin of log_mean_exp.rs, which says why it is computed
// this way.

struct Params { n_rows: u32, n_cols: u32, twice_eta: f32, half_reciprocal: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

const LANES = 8u;
const ROWS = 8u;
const BLOCK = 64u; // elements a lane sums before the sum moves on
const MAX = 0x1.fffffep+127f;
const FLAT = 0x1p-24f;
const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;
const LN2_HIGH = 0.693359375f;
const LN2_LOW = -2.12194440e-4f;
const LOG2_E = 1.44269504f;

var<workgroup> lows: array<f32, 64>;
var<workgroup> highs: array<f32, 64>;
var<workgroup> bad: array<u32, 64>;
var<workgroup> sums: array<vec2<f32>, 64>;

// exp(t) and exp(t) - 1 for t <= 0; the built-in exponential would leave nothing of the latter near zero
fn exp_and_m1(t: f32) -> vec2<f32> {
    let z = max(t, -87.0);
    let k = round(z * LOG2_E);
    let r = (z - k * LN2_HIGH) - k * LN2_LOW;
    var p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    let m1 = p * r;
    let scale = bitcast<f32>(u32(i32(k) + 127) << 23u);
    return vec2<f32>(scale + scale * m1, scale * m1 + (scale - 1.0));
}

// log(1 + u) for -0.5 <= u <= 0, by the series of 2 artanh(u / (2 + u))
fn log1p(u: f32) -> f32 {
    let s = u / (2.0 + u);
    let q = s * s;
    var p = 1.0 / 15.0;
    p = p * q + 1.0 / 13.0;
    p = p * q + 1.0 / 11.0;
    p = p * q + 1.0 / 9.0;
    p = p * q + 1.0 / 7.0;
    p = p * q + 0.2;
    p = p * q + 1.0 / 3.0;
    p = p * q + 1.0;
    return 2.0 * s * p;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) own: u32) {
    let row = group.x * ROWS + own / LANES;
    let lane = own % LANES;
    let lead = own - lane; // where the row's lanes begin, and what they reduce to
    // lanes past the last row still meet the barriers
    let first = row * params.n_cols;
    let end = select(first, first + params.n_cols, row < params.n_rows);

    var low = MAX;
    var high = -MAX;
    var is_bad = 0u;
    for (var i = first + lane; i < end; i += LANES) {
        let bits = x[i];
        if (bits & EXPONENT) == EXPONENT { is_bad = 1u; }
        low = min(low, bitcast<f32>(bits));
        high = max(high, bitcast<f32>(bits));
    }
    lows[own] = low;
    highs[own] = high;
    bad[own] = is_bad;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lows[own] = min(lows[own], lows[own + half]);
            highs[own] = max(highs[own], highs[own + half]);
            bad[own] |= bad[own + half];
        }
        workgroupBarrier();
    }

    var near = lows[lead];
    var far = highs[lead];
    if params.twice_eta > 0.0 {
        near = highs[lead];
        far = lows[lead];
    }
    let half_near = 0.5 * near;
    let flat = abs(params.twice_eta * (0.5 * far - half_near)) < FLAT;
    let n = f32(params.n_cols);
    var sum = vec2<f32>(0.0);
    for (var start = first + lane; start < end; start += BLOCK * LANES) {
        var block = vec2<f32>(0.0);
        for (var i = start; i < min(start + BLOCK * LANES, end); i += LANES) {
            let d = 0.5 * bitcast<f32>(x[i]) - half_near;
            if flat {
                block.x += d / n; // divided first: a sum of many halves could overflow
            } else {
                block += exp_and_m1(params.twice_eta * d);
            }
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
        let total = sums[own];
        var result = half_near + total.x;
        if !flat {
            if total.y / n > -0.5 {
                result = half_near + log1p(total.y / n) * params.half_reciprocal;
            } else {
                result = half_near + log(total.x / n) * params.half_reciprocal;
            }
        }
        out[row] = select(bitcast<u32>(2.0 * result), NAN, bad[own] != 0u);
    }
}
