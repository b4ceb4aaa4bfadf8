//! Reading candidates, without Lean.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Pieces that begin what must end somewhere, in any order, among any characters.
    #[test]
    fn any_text_is_read_or_refused(
        pieces in prop::collection::vec(
            prop_oneof![
                any::<String>(),
                "theorem |lemma |:=|:|by |sorry|native|#eval|--|/-|-/|\\(|\\)|«|»|r#\"|\"|'|\\\\|\n|\\{u\\}|t\\.",
            ],
            0..24,
        ),
        cut in 0_usize..24,
    ) {
        let cut = cut.min(pieces.len());
        let candidate = Candidate {
            header: String::new(),
            statement: pieces[..cut].concat(),
            proof: pieces[cut..].concat(),
        };
        for form in [Form::Screen, Form::Confirm, Form::Compile] {
            if let Ok(parts) = prepare(&candidate, form) {
                let mut source = Source::new("");
                source.add(&parts, &candidate.proof, form, "0");
                let lines = source.text.bytes().filter(|byte| *byte == b'\n').count();
                prop_assert_eq!(source.placed[0].last as usize, lines);
            }
        }
        let row = serde_json::json!({"formal_statement": candidate.statement, "full_code": pieces.concat()});
        prop_assert_eq!(crate::rows::read(row.to_string().as_bytes()).count(), 1);
    }
}

#[test]
fn processes_are_bounded_by_cores_and_by_memory() {
    let gib = 1 << 30;
    assert_eq!(processes(8, 4 * gib, Some(64 * gib)), 8);
    assert_eq!(processes(8, 4 * gib, Some(20 * gib)), 4);
    assert_eq!(processes(8, 4 * gib, Some(gib)), 1);
    assert_eq!((processes(8, 4 * gib, None), processes(0, 0, Some(0))), (8, 1));
}
