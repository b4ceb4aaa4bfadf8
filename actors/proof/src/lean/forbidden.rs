//! Words that may not stand in foreign Lean text: those that end a proof and begin a command, reach past their own
//! text, run programs, or read the machine.
//!
//! This list keeps batches clean and answers cheap, and is the reason why nothing but Lean writes to its output; all else
//! that `proved` rests on is in [`judge`](super::reply).
//! Words are whole: `end` is forbidden, `h_end` and `legend` are not. Comments are not looked at.

use super::scan::Code;
use crate::Outcome;

/// Longest statement or proof handed to Lean, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Sorted, for binary search. Some name what runs compiled terms (`native`, `plausible`, widgets), others what a term
/// would need for reaching the machine where one is run all the same, as those in the options of tactics are.
const WORDS: &[&str] = &[
    "BaseIO",
    "EIO",
    "EStateM",
    "IO",
    "Lean",
    "Plausible",
    "RealWorld",
    "SlimCheck",
    "System",
    "abbrev",
    "add_aesop_rules",
    "add_decl_doc",
    "alias",
    "attribute",
    "axiom",
    "axioms",
    "binder_predicate",
    "builtin_initialize",
    "by_elab",
    "class",
    "coinductive",
    "compile_inductive",
    "constant",
    "csimp",
    "decl_name",
    "declare_syntax_cat",
    "def",
    "deriving",
    "dsimproc",
    "elab",
    "elab_rules",
    "end",
    "erase_aesop_rules",
    "eval_expr",
    "example",
    "export",
    "extern",
    "implemented_by",
    "import",
    "include",
    "include_str",
    "inductive",
    "infix",
    "infixl",
    "infixr",
    "initialize",
    "initialize_simps_projections",
    "instance",
    "irreducible_def",
    "lemma",
    "local",
    "macro",
    "macro_rules",
    "meta",
    "mutual",
    "namespace",
    "native",
    "native_decide",
    "noncomputable",
    "nonrec",
    "notation",
    "notation3",
    "ofReduceBool",
    "ofReduceNat",
    "omit",
    "opaque",
    "open",
    "partial",
    "plausible",
    "polyrith",
    "postfix",
    "prefix",
    "prelude",
    "println!",
    "private",
    "protected",
    "public",
    "reduceBool",
    "reduceNat",
    "register_label_attr",
    "register_option",
    "register_simp_attr",
    "run_cmd",
    "run_elab",
    "run_meta",
    "run_tac",
    "scoped",
    "section",
    "set_option",
    "show_panel_widgets",
    "simproc",
    "slim_check",
    "structure",
    "suppress_compilation",
    "syntax",
    "theorem",
    "trustCompiler",
    "unif_hint",
    "universe",
    "universes",
    "unsafe",
    "unseal",
    "variable",
    "variables",
    "with_panel_widgets",
];

/// Symbols that open metaprogramming: quotations, antiquotations of declarations, attributes.
const SYMBOLS: &[&str] = &["`(", "`[", "@[", "eval%", "initFn✝"];

/// Commands after `#`, where the word is one that Lean or Mathlib knows; any other only at the start of a line.
const HASH: &[&str] = &[
    "check",
    "check_failure",
    "eval",
    "exit",
    "find",
    "guard",
    "help",
    "norm_num",
    "print",
    "reduce",
    "simp",
    "synth",
    "where",
    "with_exporting",
];

/// Words of [`WORDS`] that a header may hold: they declare nothing.
const HEADER_WORDS: &[&str] = &[
    "Lean",
    "Plausible",
    "import",
    "include",
    "namespace",
    "noncomputable",
    "omit",
    "open",
    "prelude",
    "scoped",
    "section",
    "set_option",
    "universe",
    "universes",
    "variable",
    "variables",
];

/// The first word of a foreign header that does more than import, open and set options: it declares something, runs
/// something, or turns the kernel off.
pub(crate) fn declares<'t>(code: &Code, text: &'t str) -> Option<&'t str> {
    let is_foreign = |word: &str| {
        matches!(word, "sorry" | "skipKernelTC" | "sorryAx")
            || (WORDS.binary_search(&word).is_ok() && HEADER_WORDS.binary_search(&word).is_err())
    };
    let words = code.words().map(|word| &text[word.start..word.start + word.text.len()]);
    words.into_iter().find(|word| is_foreign(word)).or_else(|| ["#", "@["].into_iter().find(|sign| code.contains(sign)))
}

/// Why `text` is not even read, if it is not.
pub(super) fn check_size(text: &str) -> Result<(), (Outcome, String)> {
    if text.len() > MAX_TEXT_BYTES {
        return Err((Outcome::Unparsed, "the text is longer than 1 MiB".to_owned()));
    }
    if text.contains('\0') {
        return Err((Outcome::Unparsed, "the text holds a zero byte".to_owned()));
    }
    Ok(())
}

/// Why `text` may not be run, if it may not. `is_statement` allows the one `theorem` or `lemma` it starts with.
pub(super) fn check(code: &Code, text: &str, is_statement: bool) -> Result<(), (Outcome, String)> {
    let forbidden = |word: &str| Err((Outcome::Forbidden, format!("the word `{word}` may not stand here")));
    for (index, word) in code.words().enumerate() {
        if matches!(word.text, "sorry" | "admit" | "sorryAx") {
            return Err((Outcome::Sorry, format!("`{}` leaves a hole", word.text)));
        }
        if is_statement && index == 0 {
            continue;
        }
        let before = &text[..word.start];
        let is_hash = before.ends_with('#')
            && (HASH.contains(&word.text.trim_end_matches(['!', '?', '\'']))
                || before[..before.len() - 1].trim_end_matches([' ', '\t']).ends_with(['\n', '\r'])
                || before.len() == 1);
        if is_hash
            || WORDS.binary_search(&word.text).is_ok()
            || matches!(word.text, "apply?" | "exact?" | "include_str!")
        {
            return forbidden(if is_hash { &text[word.start - 1..word.start + word.text.len()] } else { word.text });
        }
    }
    SYMBOLS.iter().find(|symbol| code.contains(symbol)).map_or(Ok(()), |symbol| forbidden(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> Option<Outcome> {
        let checked = check_size(text).and_then(|()| check(&Code::read(text).unwrap(), text, false));
        checked.err().map(|(outcome, _)| outcome)
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(WORDS.is_sorted() && HEADER_WORDS.is_sorted());
    }

    #[test]
    fn whole_words_are_forbidden_and_parts_of_words_are_not() {
        for text in [
            "h\nend Foo",
            "h\naxiom cheat : False",
            "h\n#eval 1",
            "by\n  open Foo in simp",
            "h\n  #anything 3",
            "by native_decide",
            "by decide +native",
            "by simp (config := { maxSteps := match (IO.println \"x\" : IO Unit) () with | _ => 1 })",
            "by omega (config := Lean.foo)",
            "by decide (config := { native := true })",
            "`(tactic| simp)",
            "by set_option maxHeartbeats 0 in simp",
            "by exact?",
            "s!\"{by_elab x}\"",
            "h instance : Foo",
        ] {
            assert_eq!(outcome(text), Some(Outcome::Forbidden), "{text}");
        }
        for text in
            ["h_end", "legend", "by simp -- end of proof", "h.axiom_of_choice", "card #s", "x /- def -/", "sorry_free"]
        {
            assert_eq!(outcome(text), None, "{text}");
        }
        assert_eq!(outcome("by\n  sorry"), Some(Outcome::Sorry));
        assert_eq!(outcome("Foo.sorryAx"), Some(Outcome::Sorry));
        assert_eq!(outcome("x\0"), Some(Outcome::Unparsed));
    }
}
