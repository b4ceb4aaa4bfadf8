// The best candidate of each group in each direction: an invocation takes one group and one direction. Twin of
// direction_argmax.rs.
//
// Numbers that are none are told by their bits, since WGSL lets a compiler assume there are none.

struct Params { n_items: u32, n_dims: u32, n_directions: u32, zero: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rewards: array<f32>;
@group(0) @binding(2) var<storage, read> bounds: array<u32>; // where each group begins, and the last one ends
@group(0) @binding(3) var<storage, read> directions: array<f32>; // by dimension
@group(0) @binding(4) var<storage, read_write> out: array<vec2<u32>>;

const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let item = id.x;
    if item >= params.n_items { return; }
    let group = item / params.n_directions;
    let direction = item % params.n_directions;
    var at = 0u;
    var best = 0.0;
    var is_bad = false;
    let first = bounds[group];
    for (var row = first; row < bounds[group + 1u]; row++) {
        var score = 0.0;
        for (var dim = 0u; dim < params.n_dims; dim++) {
            let product = rewards[row * params.n_dims + dim] * directions[dim * params.n_directions + direction];
            // unchanged, but no longer known to be a product
            score += bitcast<f32>(bitcast<u32>(product) ^ params.zero);
        }
        if (bitcast<u32>(score) & EXPONENT) == EXPONENT { is_bad = true; }
        if row == first || score > best {
            at = row;
            best = score;
        }
    }
    out[item] = vec2<u32>(at, select(bitcast<u32>(best), NAN, is_bad));
}
