//! The table.

use tracker_proof::Outcome::{
    self, BadAxiom, Failed, Forbidden, Infra, Oom, Sorry, StatementMismatch, Timeout, Unparsed,
};

/// How a trap is set. Around what it holds stands each time one good candidate more, which must be proved.
pub(crate) enum Stage {
    /// Under real Lean: the header after the prelude; then statement, proof and outcome.
    Real(fn() -> String, &'static [(&'static str, &'static str, Outcome)]),
    /// A reply: the header; then the word that makes the stand-in give it, and the outcome.
    Reply(&'static str, &'static [(&'static str, Outcome)]),
    /// A row of a file: header, `formal_statement`, `full_code`, and the outcome.
    File(&'static [(&'static str, &'static str, &'static str, Outcome)]),
}

pub(crate) struct Trap {
    /// As in `TRAPS.md`.
    pub(crate) number: u8,
    pub(crate) stages: &'static [Stage],
}

use Stage::{File, Real, Reply};

/// `p` alone proves nothing of `q`.
const BAD: &str = "theorem bad (p q : Prop) (h : p) : q";

/// Stands for a proof of more than a mebibyte.
pub(crate) const LONG: &str = "LONG";

/// A hole in the header, which every proof may use and no scan sees.
const HOLE: &str = "inductive Bool : Type where
  | false : Bool
  | true : Bool
axiom sorryAx (α : Sort u) (synthetic : Bool) : α
theorem hole (p : Prop) : p := sorryAx p Bool.false
";

fn hole() -> String {
    HOLE.to_owned()
}

fn unwarned_hole() -> String {
    format!("set_option warn.sorry false\n{HOLE}")
}

fn cheat() -> String {
    "axiom cheat : (p : Prop) → p\n".to_owned()
}

fn native() -> String {
    "axiom t._native.ax_1_1 : (p : Prop) → p\n".to_owned()
}

/// Two towers of definitions that are equal, which takes 2³⁰ comparisons to see.
fn endless() -> String {
    let level = |name: &str, k: u32| {
        let below = format!("{name}{}", k.saturating_sub(1));
        let body = if k == 0 { "p".to_owned() } else { format!("And ({below} (Not p)) ({below} (Iff p p))") };
        format!("def {name}{k} (p : Prop) : Prop := {body}\n")
    };
    let levels = ["f", "g"].iter().flat_map(|name| (0..=30).map(|k| level(name, k)));
    std::iter::once("set_option maxHeartbeats 0\n".to_owned()).chain(levels).collect()
}

/// 1 to 20 fooled published checkers; 21 to 26 were seen with Lean 4.35 itself.
pub(crate) const TRAPS: &[Trap] = &[
    // `admit` reported valid, because only the list of holes was looked at
    Trap { number: 1, stages: &[Real(String::new, &[(BAD, "by admit", Sorry)]), Reply("", &[("HOLE", Sorry)])] },
    // the words of the warning changed
    Trap {
        number: 2,
        stages: &[Real(hole, &[(BAD, "hole q", Sorry)]), Reply("", &[("QUOTED", Sorry), ("HOLE", Sorry)])],
    },
    // the warning silenced
    Trap {
        number: 3,
        stages: &[
            Real(String::new, &[(BAD, "set_option warn.sorry false in sorry", Forbidden)]),
            Real(unwarned_hole, &[(BAD, "hole q", Sorry)]),
            Reply("", &[("UNWARNED", Sorry)]),
        ],
    },
    // `apply?` leaves a hole without an error
    Trap {
        number: 4,
        stages: &[
            Real(String::new, &[(BAD, "by apply?", Forbidden), (BAD, "by exact?", Forbidden)]),
            Reply("", &[("UNWARNED", Sorry)]),
        ],
    },
    // a proof by itself
    Trap {
        number: 5,
        stages: &[Real(String::new, &[("theorem loop (p : Prop) : p", "loop p", Failed), (BAD, "bad p q h", Failed)])],
    },
    // axioms beyond the three
    Trap {
        number: 6,
        stages: &[
            Real(cheat, &[(BAD, "cheat q", BadAxiom)]),
            Real(String::new, &[(BAD, "by native_decide", Forbidden), (BAD, "by decide +native", Forbidden)]),
            Reply("", &[("NATIVE", BadAxiom)]),
        ],
    },
    // axioms under names that no deny-list knows
    Trap {
        number: 7,
        stages: &[Real(native, &[(BAD, "t._native.ax_1_1 q", BadAxiom)]), Reply("", &[("RENAMED", BadAxiom)])],
    },
    // the statement, its kind, a definition or an instance swapped
    Trap {
        number: 8,
        stages: &[
            Real(
                String::new,
                &[
                    ("axiom bad (p : Prop) : p", "h", Unparsed),
                    ("def bad (p : Prop) : p", "h", Unparsed),
                    (BAD, "h\ninstance : Foo := h", Forbidden),
                    (BAD, "h\ndef And := Or", Forbidden),
                    ("theorem bad (p : Prop) : p := h\ntheorem good (p : Prop) (h : p) : p", "h", Forbidden),
                    ("theorem bad (p q : Prop) (h : p) : q := h", "h", Unparsed),
                ],
            ),
            Reply("", &[("SWAP", StatementMismatch)]),
            File(&[("import Mathlib", BAD, "theorem bad (p q : Prop) (h : p) : p := h", StatementMismatch)]),
        ],
    },
    // the environment changed by programs
    Trap {
        number: 9,
        stages: &[Real(
            String::new,
            &[
                (BAD, "h\nrun_cmd foo", Forbidden),
                (BAD, "by run_tac foo", Forbidden),
                (BAD, "h\nelab \"x\" : term => foo", Forbidden),
                (BAD, "by_elab foo", Forbidden),
                (BAD, "h\ninitialize foo", Forbidden),
                (BAD, "by plausible", Forbidden),
                (BAD, "h\nset_option debug.skipKernelTC true", Forbidden),
            ],
        )],
    },
    // programs run while compiling
    Trap {
        number: 10,
        stages: &[Real(
            String::new,
            &[(BAD, "h\n#eval foo", Forbidden), (BAD, "include_str \"/etc/passwd\"", Forbidden)],
        )],
    },
    // code that is not what the logic says
    Trap {
        number: 11,
        stages: &[Real(
            String::new,
            &[
                (BAD, "h\n@[implemented_by foo] def x := h", Forbidden),
                (BAD, "h\n@[extern \"foo\"] opaque x : Nat", Forbidden),
                (BAD, "h\npartial def x := x", Forbidden),
                (BAD, "h\nunsafe def x := h", Forbidden),
            ],
        )],
    },
    // what was checked elsewhere is taken for checked: nothing is loaded but what the header names
    Trap { number: 12, stages: &[Real(String::new, &[(BAD, "h\nimport Evil", Forbidden)])] },
    // a defective statement silently repaired
    Trap {
        number: 13,
        stages: &[File(&[(
            "import Mathlib",
            "theorem t (n : ℕ) : n = 0 := by sorry",
            "theorem t (n : ℕ) (h : n = 0) : n = 0 := h",
            StatementMismatch,
        )])],
    },
    // one name, two statements
    Trap {
        number: 14,
        stages: &[Real(
            String::new,
            &[
                ("theorem good (p q : Prop) (h : And p q) : p", "h.2", Failed),
                ("theorem good (p : Prop) : p", "good p", Failed),
            ],
        )],
    },
    // the header rewritten
    Trap {
        number: 15,
        stages: &[
            File(&[(
                "import Mathlib\nopen Real",
                BAD,
                "import Mathlib\nopen Nat\ntheorem bad (p q : Prop) (h : p) : q := h",
                StatementMismatch,
            )]),
            Real(cheat, &[(BAD, "cheat q", BadAxiom)]),
            Real(String::new, &[(BAD, "cheat q", Failed)]),
        ],
    },
    // trouble scored as a wrong proof
    Trap {
        number: 16,
        stages: &[
            Reply("", &[("HANG", Timeout)]),
            Reply("", &[("CRASH", Infra)]),
            Reply("-- SLOW\n", &[("HANG", Timeout)]),
        ],
    },
    // an error object taken for an answer
    Trap { number: 17, stages: &[Reply("", &[("OBJECT", Infra)])] },
    // what is too long is dropped
    Trap {
        number: 18,
        stages: &[Real(String::new, &[(BAD, LONG, Unparsed), (BAD, "", Unparsed)]), Reply("", &[("SILENT", Unparsed)])],
    },
    // no limit but the clock
    Trap {
        number: 19,
        stages: &[
            Real(endless, &[("theorem t (p : Prop) (h : f30 p) : g30 p", "h", Timeout)]),
            Reply("", &[("HEARTBEATS", Timeout)]),
        ],
    },
    // memory
    Trap { number: 20, stages: &[Reply("", &[("MEMORY", Oom)]), Reply("", &[("FLOOD", Oom)])] },
    // what failed is added all the same, with a cheerful axiom line
    Trap {
        number: 21,
        stages: &[
            Real(
                String::new,
                &[(BAD, "h", Failed), (BAD, "fun x =>", Failed), (BAD, "(h", Failed), (BAD, "sorry", Sorry)],
            ),
            Reply("", &[("WRONG", Failed)]),
        ],
    },
    // a statement cut by a parse error leaves another theorem behind
    Trap {
        number: 22,
        stages: &[Real(
            String::new,
            &[
                ("theorem cut (p q : Prop) : p ∧ q", "h", Failed),
                ("theorem cut (p q : Prop) (h : p) : p ∧ q", "h", Failed),
            ],
        )],
    },
    // the warning silenced in the proof itself
    Trap { number: 23, stages: &[Real(String::new, &[(BAD, "(set_option warn.sorry false in sorry)", Forbidden)])] },
    // Lean stops after a hundred errors: see `errors_past_the_hundredth_are_still_errors`
    Trap { number: 24, stages: &[Real(String::new, &[(BAD, "h", Failed)])] },
    // an axiom above the theorem
    Trap {
        number: 25,
        stages: &[
            Real(String::new, &[(BAD, "cheat q\naxiom cheat : (p : Prop) → p", Forbidden)]),
            Real(cheat, &[(BAD, "cheat q", BadAxiom)]),
            File(&[(
                "import Mathlib",
                BAD,
                "axiom cheat : False\ntheorem bad (p q : Prop) (h : p) : q := cheat.elim",
                Unparsed,
            )]),
        ],
    },
    // several proofs in one file share its environment
    Trap {
        number: 26,
        stages: &[Real(
            String::new,
            &[
                (BAD, "h\nnamespace X", Forbidden),
                (BAD, "h\nend", Forbidden),
                (BAD, "h\nsection", Forbidden),
                (BAD, "h\n#exit", Forbidden),
                (BAD, "h /- never closed", Forbidden),
                (BAD, "h \"never closed", Forbidden),
                (BAD, "h\nnotation \"x\" => h", Forbidden),
                (BAD, "h\nlocal infix:50 \"x\" => h", Forbidden),
                (BAD, "h\ntheorem bad2 (p : Prop) (h : p) : p := h", Forbidden),
            ],
        )],
    },
];
