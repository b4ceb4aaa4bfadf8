//! Plans: a text is a plan of a study, or is refused as wrong input.
#![no_main]

use tracker_lab::plan::study_of;
use tracker_lab::{Overlay, study};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let path = std::path::PathBuf::from("plan.toml");
    let resolved = study_of(&path, text).and_then(|name| {
        let overlay = Overlay { file: Some((path, text.to_owned())), ..Overlay::default() };
        study(&name)?.resolve(&overlay)
    });
    if let Err(error) = resolved {
        assert!(error.is_input(), "{error}");
    }
});
