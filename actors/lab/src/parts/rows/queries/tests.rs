use std::path::PathBuf;

use serde_json::json;

use super::super::{Ids, Options, Reader, Report};
use super::*;

fn read_as(format: QueryFormat, name: &str, text: &str, skip_bad: bool) -> Result<(Vec<Query>, Report)> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    Reader::open(Queries(format), &[path], Options { ids: Ids::Content, n_rows: None, skip_bad })?.collect_all()
}

fn all(format: QueryFormat, name: &str, text: &str) -> Vec<Query> {
    read_as(format, name, text, false).unwrap().0
}

/// What is said of the first wrong row, from the file's name on.
fn refused(format: QueryFormat, name: &str, text: &str) -> String {
    let error = read_as(format, name, text, false).unwrap_err();
    assert!(error.is_input());
    let said = error.to_string();
    said[said.find(name).unwrap_or_else(|| panic!("{said}"))..].to_owned()
}

fn choice_of(query: &Query) -> (&[String], usize) {
    match &query.gold {
        Gold::Choice { options, right } => (options, *right),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pararel_is_pairs_of_one_domain_or_of_several() {
    let rows =
        all(QueryFormat::Pararel, "P17_test.json", r#"[["Where is Kyoto?", "Japan"], ["Где Киото?", "Япония"]]"#);
    assert_eq!((rows[0].domain.as_str(), rows[1].question.as_str()), ("P17", "Где Киото?"));
    assert_eq!(rows[1].gold, Gold::Texts(vec!["Япония".into()]));
    let rows = all(QueryFormat::Pararel, "all.json", r#"{"P17": [["a", "b"]], "P19": [["a", "b"], ["c", "d"]]}"#);
    let domains: Vec<&str> = rows.iter().map(|row| row.domain.as_str()).collect();
    assert_eq!(domains, ["P17", "P19", "P19"]);
    for (text, said) in [
        (r#"[["a", "b"], ["a"]]"#, "p.json, row 2: expected `[question, answer]`, got 1 elements"),
        (r#"[["a", "b"], ["a", null]]"#, "p.json, row 2, field `[1]`: expected a text, got `null`"),
        (
            r#"[["a", "b"], ["c", " "]]"#,
            "p.json, row 2, field `answer`: expected a text that is not blank, got a blank one",
        ),
        (r#"{"P17": [["a", "b"]], "P19": ["c"]}"#, "p.json, row 2, field `P19[0]`: expected a list, got `\"c\"`"),
        (r#"{"P17": 3}"#, "p.json, field `P17`: expected a list of rows, got `3`"),
        (r#"[["a", "b"], ["a", "b"]]"#, "p.json, row 2: an earlier row says the same: number 1 of all, in `p.json`"),
        ("3", "p.json: expected a list of `[question, answer]`, or such lists by domain"),
        (r#"[["a", "b"],"#, "p.json: line 1: it is no JSON"),
    ] {
        assert!(
            refused(QueryFormat::Pararel, "p.json", text).starts_with(said),
            "{}",
            refused(QueryFormat::Pararel, "p.json", text)
        );
    }
}

#[test]
fn mmlu_compares_letters_and_never_the_text_of_an_option() {
    let text = json!({"anatomy": [["q", "B", "x", "y", "z", "C"], ["q2", 1, 2, 3, 4, "A"]], "law": [["q", "1", "2", "3", "4", "D"]]});
    let rows = all(QueryFormat::Mmlu, "MMLU_ID_test.json", &text.to_string());
    assert_eq!(rows.iter().map(|row| choice_of(row).1).collect::<Vec<_>>(), [2, 0, 3]);
    assert_eq!((rows[2].domain.as_str(), choice_of(&rows[1]).0), ("law", &["1", "2", "3", "4"].map(String::from)[..]));
    // The answer is B's letter; option A's text, which is "B", is not it.
    let rows = all(QueryFormat::Mmlu, "m.json", r#"{"t": [["q", "B", "A", "y", "z", "B"]]}"#);
    assert_eq!(choice_of(&rows[0]).1, 1);
    for (text, said) in [
        (
            r#"{"t": [["q", "a", "b", "c", "d", "E"]]}"#,
            "m.json, row 1, field `t[0].letter`: expected one of A, B, C, D, got `E`",
        ),
        (
            r#"{"t": [["q", "a", "b", "c", "d", "a"]]}"#,
            "m.json, row 1, field `t[0].letter`: expected one of A, B, C, D, got `a`",
        ),
        (r#"{"t": [["q", "a", "A"]]}"#, "m.json, row 1, field `t[0]`: expected 2 to 8 options, got 1"),
        (r#"{"t": [["q"]]}"#, "m.json, row 1, field `t[0]`: expected `[question, A, B, …, letter]`"),
        ("[]", "m.json: expected lists of `[question, A, B, C, D, letter]` by task"),
    ] {
        assert!(
            refused(QueryFormat::Mmlu, "m.json", text).starts_with(said),
            "{}",
            refused(QueryFormat::Mmlu, "m.json", text)
        );
    }
    let table = "\"One, two\nor \"\"three\"\"?\",a,b,c,d,B\nnext,1,2,3,4,D\n";
    let rows = all(QueryFormat::Mmlu, "abstract_algebra_test.csv", table);
    assert_eq!((rows[0].domain.as_str(), rows[0].question.as_str()), ("abstract_algebra", "One, two\nor \"three\"?"));
    assert_eq!((choice_of(&rows[0]).1, choice_of(&rows[1]).1), (1, 3));
    // The second record begins on the third line.
    assert!(
        refused(QueryFormat::Mmlu, "t.csv", "\"a\nb\",1,2,3,4,A\nc,1,2,3,4,X\n")
            .starts_with("t.csv, row 3, field `letter`")
    );
}

#[test]
fn labels_of_claims_are_compared_whole() {
    let row = |label: &str| json!([{"evidence": ["e1", "e2"], "claim": "c", "label": label}]).to_string();
    for (at, label) in WICE.iter().enumerate() {
        let rows = all(QueryFormat::Wice, "w.json", &row(label));
        // Each has its own place, though `supported` is a part of all three.
        assert_eq!(choice_of(&rows[0]).1, at);
        assert_eq!(rows[0].question, "Evidence: e1 e2\nClaim: c\nDoes the evidence support the claim?");
    }
    assert_eq!(choice_of(&all(QueryFormat::Fever, "f.json", &row("NOT ENOUGH INFO"))[0]).1, 2);
    assert!(
        refused(QueryFormat::Wice, "w.json", &row("support"))
            .contains("row 1, field `label`: expected one of supported,")
    );
    assert!(refused(QueryFormat::Fever, "f.json", &row("supported")).contains("expected one of SUPPORTS,"));
    assert!(
        refused(QueryFormat::Fever, "f.json", r#"[{"claim": "c", "label": "SUPPORTS"}]"#).contains("field `evidence`")
    );
}

#[test]
fn passages_stand_before_their_question() {
    let row = json!([{"context": [["Kyoto", ["It is old.", "It is in Japan."]], ["Nara", ["Deer."]]], "question": "Where?", "answer": "Japan"}]);
    let rows = all(QueryFormat::HotpotQa, "h.json", &row.to_string());
    assert_eq!(rows[0].question, "Kyoto: It is old. It is in Japan.\nNara: Deer.\nWhere?");
    let wrong = json!([{"context": [["Kyoto", "It is old."]], "question": "Where?", "answer": "Japan"}]);
    assert!(
        refused(QueryFormat::HotpotQa, "h.json", &wrong.to_string())
            .contains("row 1, field `context[0]`: expected `[title,")
    );
    let rows = all(
        QueryFormat::HaluEval,
        "q.jsonl",
        r#"{"knowledge": "k", "question": "q", "right_answer": "a", "hallucinated_answer": "b"}"#,
    );
    assert_eq!((rows[0].question.as_str(), &rows[0].gold), ("k\nq", &Gold::Texts(vec!["a".into()])));
}

#[test]
fn questions_without_answers_are_told_from_those_with() {
    let table =
        "question,answer,label\n\"Why do cats, dogs and eggs fly?\",They do not.,1\nWhy do birds fly?,To move.,0\n";
    let rows = all(QueryFormat::FalseQa, "test.csv", table);
    let told: Vec<(bool, bool)> = rows.iter().map(|row| (row.is_answerable, row.gold == Gold::Unsaid)).collect();
    assert_eq!(told, [(false, true), (true, false)]);
    assert!(
        refused(QueryFormat::FalseQa, "f.csv", "q,a,2\n").starts_with("f.csv, row 1, field `label`: expected 0 or 1")
    );
    assert!(
        refused(QueryFormat::FalseQa, "f.csv", "q,a,1\nq\n")
            .starts_with("f.csv, row 2: expected `question,answer,label`, got 1 columns")
    );

    let lines = "{\"prompt\": \"What does a Leogoteo eat?\", \"label\": 1, \"category\": \"animals\"}\n{\"prompt\": \"What does a lion eat?\", \"label\": 0}\n";
    let rows = all(QueryFormat::Nec, "nec.json", lines);
    assert_eq!(
        rows.iter().map(|row| (row.is_answerable, row.domain.as_str())).collect::<Vec<_>>(),
        [(false, "animals"), (true, "nec")]
    );
    assert!(
        refused(QueryFormat::Nec, "n.json", "{\"prompt\": \"p\", \"label\": null}\n").contains("row 1, field `label`")
    );

    let text = json!({"example": [
        {"question_id": 1, "question": "Is there life after death?", "answer": null, "answerable": false, "source": "s"},
        {"question_id": 2, "question": "Who wrote Faust?", "answer": ["Goethe", "J. W. von Goethe"], "answerable": true, "source": "s"},
    ]});
    let rows = all(QueryFormat::SelfAware, "SelfAware.json", &text.to_string());
    assert_eq!((rows[0].is_answerable, &rows[0].gold), (false, &Gold::Unsaid));
    assert_eq!(rows[1].gold, Gold::Texts(vec!["Goethe".into(), "J. W. von Goethe".into()]));
    let wrong = json!({"example": [{"question": "q", "answer": null, "answerable": "no"}]});
    assert!(
        refused(QueryFormat::SelfAware, "s.json", &wrong.to_string())
            .contains("row 1, field `answerable`: expected true or false")
    );
    assert!(
        refused(QueryFormat::SelfAware, "s.json", "{\"examples\": []}").contains("expected a list under `example`")
    );
}

#[test]
fn wrong_rows_can_be_left_out_and_are_counted() {
    let (rows, report) =
        read_as(QueryFormat::Pararel, "p.json", r#"[["a", "b"], ["a"], ["a", "b"], ["c", "d"]]"#, true).unwrap();
    assert_eq!((rows.len(), report.n_read, report.n_kept), (2, 4, 2));
    assert!(report.skipped[0].to_string().contains("row 2") && report.skipped[1].to_string().contains("row 3"));
}
