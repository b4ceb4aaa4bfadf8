//! Naming, listing and opening devices.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tracker_gpu::{Choice, Device, Error, Kind, devices};

#[test]
fn names_round_trip() {
    for (text, choice) in [
        ("auto", Choice::Auto),
        ("cpu", Choice::Cpu),
        ("wgpu", Choice::Wgpu(None)),
        ("wgpu:0", Choice::Wgpu(Some(0))),
        ("wgpu:12", Choice::Wgpu(Some(12))),
    ] {
        assert_eq!(text.parse(), Ok(choice));
        assert_eq!(choice.to_string(), text);
    }
}

#[test]
fn misspelled_names_are_refused_with_what_is_known() {
    for text in ["", "gpu", "CPU", "wgpu:", "wgpu:-1", "wgpu:+1", "wgpu:x", "wgpu:99999999999999999999", "wgpu:1 "] {
        assert_eq!(
            text.parse::<Choice>().unwrap_err().to_string(),
            format!("device: expected `auto`, `cpu`, `wgpu` or `wgpu:N`, got `{text}`")
        );
    }
}

#[test]
fn the_cpu_always_opens() {
    for device in [Device::cpu(), Device::open(&Choice::Cpu).unwrap()] {
        assert_eq!(device.id(), "cpu");
        assert!(device.adapter().is_none());
        assert!(device.notes().is_empty());
    }
}

#[test]
fn auto_takes_hardware_or_the_cpu_never_a_software_adapter() {
    let device = Device::open(&Choice::Auto).unwrap();
    if let Some(adapter) = device.adapter() {
        assert!(adapter.kind.is_hardware(), "{adapter}");
    } else {
        let n_hardware = devices().iter().filter(|adapter| adapter.kind.is_hardware()).count();
        assert_eq!(device.notes().len(), n_hardware, "every adapter passed over is accounted for");
    }
}

#[test]
fn every_listed_adapter_opens_under_its_number() {
    let listed = devices();
    for (idx, adapter) in listed.iter().enumerate() {
        assert_eq!(adapter.idx, idx);
        let device = Device::open(&Choice::Wgpu(Some(idx))).unwrap();
        assert_eq!(device.adapter(), Some(adapter));
        assert_eq!(device.id(), adapter.id());
        assert!(device.id().contains(&adapter.name) && device.id().contains(&adapter.backend));
        assert!(adapter.max_binding_bytes > 0 && adapter.max_buffer_bytes > 0);
    }
    if let Some(best) = listed.iter().map(|adapter| adapter.kind).min() {
        let device = Device::open(&Choice::Wgpu(None)).unwrap();
        assert_eq!(device.adapter().map(|adapter| adapter.kind), Some(best));
    }
}

#[test]
fn an_absent_adapter_is_an_error_that_lists_the_present_ones() {
    let listed = devices();
    let error = Device::open(&Choice::Wgpu(Some(listed.len()))).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    let text = error.to_string();
    assert!(text.starts_with(&format!("adapter `wgpu:{}`: expected one of", listed.len())));
    for adapter in &listed {
        assert!(text.contains(&adapter.to_string()), "{text}");
    }
    if listed.is_empty() {
        assert!(text.contains("none"), "{text}");
    }
}

#[test]
fn hardware_is_preferred_over_software() {
    let mut kinds = [Kind::Cpu, Kind::Other, Kind::Virtual, Kind::Integrated, Kind::Discrete];
    kinds.sort();
    assert_eq!(kinds, [Kind::Discrete, Kind::Integrated, Kind::Virtual, Kind::Other, Kind::Cpu]);
    assert!(!Kind::Cpu.is_hardware() && !Kind::Other.is_hardware());
}
