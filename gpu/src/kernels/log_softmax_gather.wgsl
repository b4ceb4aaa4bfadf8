// Log-softmax and gather: one workgroup a row. Twin of log_softmax_gather.rs.
//
// NaN and infinities are told by their bits, since WGSL lets a compiler assume there are none. A row on which the result
// is undefined yields NAN.

struct Params { n_cols: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

const LANES = 64u;
const BLOCK = 64u; // elements a lane sums before the sum moves on
const MAGNITUDE = 0x7fffffffu;
const INFINITY = 0x7f800000u;
const NEG_INFINITY = 0xff800000u;
const NAN = 0x7fc00000u;
const LOWEST = -0x1.fffffep+127f;

var<workgroup> maxima: array<f32, LANES>;
var<workgroup> sums: array<f32, LANES>;
var<workgroup> bad: array<u32, LANES>;

// exp(t) for t <= 0, zero below -87, -inf included
fn decay(t: f32) -> f32 {
    return select(exp(max(t, -87.0)), 0.0, t < -87.0);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * params.n_cols;
    // the running sum is of exp(x - top), top the greatest so far
    var top = LOWEST;
    var sum = 0.0;
    var is_bad = 0u;
    var col = lane;
    while col < params.n_cols {
        var block = 0.0;
        for (var i = 0u; i < BLOCK && col < params.n_cols; i++) {
            let bits = logits[first + col];
            if (bits & MAGNITUDE) > INFINITY || bits == INFINITY { is_bad = 1u; }
            let x = bitcast<f32>(bits);
            if x > top {
                let shrink = decay(top - x);
                sum *= shrink;
                block = block * shrink + 1.0;
                top = x;
            } else {
                block += decay(x - top);
            }
            col += LANES;
        }
        sum += block;
    }
    maxima[lane] = top;
    sums[lane] = sum;
    bad[lane] = is_bad;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = lane + half;
            let higher = max(maxima[lane], maxima[other]);
            sums[lane] = sums[lane] * decay(maxima[lane] - higher) + sums[other] * decay(maxima[other] - higher);
            maxima[lane] = higher;
            bad[lane] |= bad[other];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let label = logits[first + labels[group.x]];
        var result = bitcast<u32>((bitcast<f32>(label) - maxima[0]) - log(sums[0]));
        if label == NEG_INFINITY { result = NEG_INFINITY; }
        // only a row of -inf leaves no term of the sum
        if bad[0] != 0u || sums[0] == 0.0 { result = NAN; }
        out[group.x] = result;
    }
}
