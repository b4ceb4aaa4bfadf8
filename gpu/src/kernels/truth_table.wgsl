// Truth tables of postfix programs: one invocation a word of 32 assignments. Twin of truth_table.rs, which checks the
// programs (so the stack neither overflows nor runs dry) and says how assignments are laid out.

struct Params { n_words: u32, words_log2: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> code: array<u32>;
@group(0) @binding(2) var<storage, read> starts: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

const MAX_DEPTH = 64u;

fn atom(i: u32, word: u32) -> u32 {
    switch i {
        case 0u: { return 0xaaaaaaaau; }
        case 1u: { return 0xccccccccu; }
        case 2u: { return 0xf0f0f0f0u; }
        case 3u: { return 0xff00ff00u; }
        case 4u: { return 0xffff0000u; }
        default: { return select(0u, 0xffffffffu, ((word >> (i - 5u)) & 1u) == 1u); }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.n_words { return; }
    let program = id.x >> params.words_log2;
    let word = id.x & ((1u << params.words_log2) - 1u);
    let end = starts[program + 1u];
    // the topmost value is kept apart, the ones below it in the stack
    var stack: array<u32, MAX_DEPTH>;
    var depth = 0u;
    var top = 0u;
    for (var at = starts[program]; at < end; at++) {
        let op = code[at];
        let kind = op & 0xffu;
        if kind < 3u {
            if depth > 0u { stack[depth - 1u] = top; }
            depth++;
            switch kind {
                case 0u: { top = atom(op >> 8u, word); }
                case 1u: { top = 0xffffffffu; }
                default: { top = 0u; }
            }
        } else if kind == 3u {
            top = ~top;
        } else {
            let left = stack[depth - 2u];
            depth--;
            switch kind {
                case 4u: { top = left & top; }
                case 5u: { top = left | top; }
                case 6u: { top = ~left | top; }
                default: { top = ~(left ^ top); }
            }
        }
    }
    out[id.x] = top;
}
