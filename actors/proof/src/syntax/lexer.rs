//! Text to tokens, as Lean's own tokeniser cuts them, for the part of Lean that is read here.
//!
//! A character outside that part (a tab, a `/-`, a bracket, a letter of another script) is an error and never skipped:
//! what is not understood must not look like something that is.

use logos::Logos;

use super::Stop;

/// Longest text read, in bytes. A proof of this fragment that needs more has not been seen.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024;

/// The kinds of token.
#[derive(Logos, Clone, Copy, Debug, PartialEq, Eq)]
#[logos(subpattern letter = r"[A-Za-z_α-κμ-ωΓΔΘΞΦΨΩ]")]
#[logos(subpattern rest = r"[A-Za-z0-9_'!?₀-₉α-κμ-ωΓΔΘΞΦΨΩ]")]
#[logos(skip r"[ \n]+")]
#[logos(skip r"\r\n")]
#[logos(skip(r"--[^\n]*", allow_greedy = true))]
pub(crate) enum Kind {
    /// A possibly dotted name.
    #[regex(r"(?&letter)(?&rest)*(\.(?&letter)(?&rest)*)*")]
    Ident,
    /// `.1`, `.left`: a projection that follows its term without a space.
    #[regex(r"\.([1-9]|(?&letter)(?&rest)*)")]
    Field,
    #[token("(")]
    Open,
    #[token(")")]
    Close,
    #[token("{")]
    OpenBrace,
    #[token("}")]
    CloseBrace,
    #[token("⟨")]
    OpenAngle,
    #[token("⟩")]
    CloseAngle,
    #[token(",")]
    Comma,
    #[token(";")]
    Semicolon,
    #[token(":=")]
    Assign,
    #[token(":")]
    Colon,
    #[token("=>")]
    #[token("↦")]
    Maps,
    #[token("→")]
    #[token("->")]
    Arrow,
    #[token("∧")]
    #[token("/\\")]
    And,
    #[token("∨")]
    #[token("\\/")]
    Or,
    #[token("↔")]
    #[token("<->")]
    Iff,
    #[token("¬")]
    Not,
    #[token("=")]
    Equal,
    #[token("≠")]
    Unequal,
    #[token("∀")]
    Forall,
    #[token("∃")]
    Exists,
    #[token("@")]
    At,
    #[token("fun")]
    #[token("λ")]
    Fun,
    #[token("have")]
    Have,
    #[token("show")]
    Show,
    #[token("from")]
    From,
    /// The end of the text; given by the parser, never by the tokeniser.
    End,
}

/// A token and where it stands, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Replaces `tokens` by those of `text`, closed by one [`Kind::End`].
pub(crate) fn tokenize(text: &str, tokens: &mut Vec<Token>) -> Result<(), Stop> {
    tokens.clear();
    if text.len() > MAX_TEXT_BYTES {
        return Err(Stop::unparsed(0, "the text is longer than 256 KiB"));
    }
    let mut lexer = Kind::lexer(text);
    while let Some(kind) = lexer.next() {
        let span = lexer.span();
        let (start, end) = (span.start as u32, span.end as u32);
        let kind = kind.map_err(|()| Stop::unparsed(start, "this character is outside the fragment"))?;
        tokens.push(Token { kind, start, end });
    }
    let end = text.len() as u32;
    tokens.push(Token { kind: Kind::End, start: end, end });
    Ok(())
}

/// Words that Lean, with or without Mathlib, keeps for itself: no variable has such a name. Sorted.
/// The words of Lean 4.35 without imports were found by offering it every word of its binary as a variable's name.
const RESERVED: &[&str] = &[
    "_hyg",
    "abbrev",
    "add_decl_doc",
    "admit",
    "alias",
    "assert!",
    "assert_exists",
    "assert_not_exists",
    "assert_not_imported",
    "assume",
    "at",
    "attribute",
    "axiom",
    "axioms",
    "binder_predicate",
    "break",
    "builtin_initialize",
    "builtin_simproc",
    "by",
    "by_elab",
    "calc",
    "catch",
    "class",
    "coinductive",
    "coinductive_fixpoint",
    "compile_inductive",
    "continue",
    "dbg_trace",
    "debug_assert!",
    "declare_syntax_cat",
    "decreasing_by",
    "def",
    "default",
    "deprecated_module",
    "deprecated_syntax",
    "deriving",
    "dite",
    "do",
    "docs_to_verso",
    "dsimproc",
    "elab",
    "elab_as_elim",
    "elab_rules",
    "elab_stx",
    "else",
    "end",
    "eval_expr",
    "example",
    "exists",
    "export",
    "extends",
    "finally",
    "for",
    "forall",
    "from",
    "fun",
    "generalizing",
    "grind_pattern",
    "have",
    "haveI",
    "hiding",
    "idbg",
    "if",
    "import",
    "in",
    "include",
    "inductive",
    "infix",
    "infixl",
    "infixr",
    "initialize",
    "instance",
    "irreducible_def",
    "ite",
    "leading_parser",
    "lemma",
    "let",
    "letI",
    "let_delayed",
    "let_expr",
    "let_fun",
    "let_mvar",
    "let_tmp",
    "library_note",
    "local",
    "logNamedError",
    "logNamedErrorAt",
    "logNamedWarning",
    "logNamedWarningAt",
    "macro",
    "macro_rules",
    "match",
    "match_expr",
    "matches",
    "meta",
    "monotonicity_by",
    "mut",
    "mutual",
    "namespace",
    "no_index",
    "nofun",
    "nomatch",
    "noncomputable",
    "nonrec",
    "norm_num_ext",
    "notation",
    "notation3",
    "of",
    "omit",
    "only",
    "opaque",
    "open",
    "panic!",
    "partial",
    "partial_fixpoint",
    "postfix",
    "prefix",
    "prelude",
    "private",
    "private_decl",
    "proof_wanted",
    "protected",
    "public",
    "recall",
    "recall?",
    "recommended_spelling",
    "register_option",
    "register_simp_attr",
    "register_tactic_tag",
    "renaming",
    "repeat",
    "return",
    "run_cmd",
    "run_elab",
    "run_meta",
    "run_tac",
    "says",
    "scoped",
    "section",
    "set_option",
    "show",
    "show_term_elab",
    "simproc",
    "sorry",
    "stop",
    "structure",
    "sudo",
    "suffices",
    "suppress_compilation",
    "syntax",
    "tactic_alt",
    "tactic_name",
    "tactic_tag",
    "termination_by",
    "termination_by?",
    "then",
    "theorem",
    "this_is_not",
    "throw",
    "throwError",
    "throwNamedError",
    "throwNamedErrorAt",
    "to",
    "trace",
    "trailing_parser",
    "try",
    "type_of",
    "universe",
    "universes",
    "unless",
    "unlock_limits",
    "unreachable!",
    "unsafe",
    "unsuppress_compilation",
    "until",
    "using",
    "variable",
    "variables",
    "where",
    "while",
    "with",
    "with_weak_namespace",
];

/// Whether Lean would refuse `word` as the name of a variable.
pub(crate) fn is_reserved(word: &str) -> bool {
    // most names of variables end in a digit, and no reserved word but one does; none begins with a capital
    let is_plain = match word.as_bytes() {
        [_] | [b'A'..=b'Z', ..] => true,
        [.., b'0'..=b'9'] => word != "notation3",
        _ => false,
    };
    !is_plain && RESERVED.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_words_are_sorted_and_each_is_found() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| is_reserved(word)));
    }
}
