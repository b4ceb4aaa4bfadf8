//! Fault injection: whatever breaks on the device must come back as an error of the call, and of no other.

use super::*;

const DOUBLE: Source = Source {
    name: "double",
    wgsl: "@group(0) @binding(0) var<uniform> n: u32;
        @group(0) @binding(1) var<storage, read> x: array<u32>;
        @group(0) @binding(2) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < n { y[id.x] = 2u * x[id.x]; }
        }",
    entry: "main",
};

/// Each adapter of this machine, opened; says so where there is none.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn opened() -> Vec<Gpu> {
    let found = adapters();
    if found.is_empty() {
        eprintln!("SKIP wgpu: no adapter on this machine");
    }
    found.into_iter().map(|(adapter, handle)| Gpu::open(adapter.id(), &handle).expect("an adapter opens")).collect()
}

fn double(gpu: &Gpu, x: &[u32]) -> Result<Vec<u32>> {
    let mut y = Vec::new();
    let pass = Pass {
        params: [x.len() as u32, 0, 0, 0, 0, 0, 0, 0],
        inputs: vec![bytemuck::cast_slice(x).into()],
        output_bytes: size_of_val(x),
        n_groups: x.len().div_ceil(64) as u32,
    };
    gpu.run(&DOUBLE, [pass], |_, bytes| {
        y.extend_from_slice(bytemuck::cast_slice(bytes));
        Ok(())
    })?;
    Ok(y)
}

fn assert_works(gpu: &Gpu) {
    let x: Vec<u32> = (0..1000).collect();
    let want: Vec<u32> = (0..1000).map(|v| 2 * v).collect();
    assert_eq!(double(gpu, &x), Ok(want));
}

/// The detail of a device error, lower case; anything else fails the test.
fn detail<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    match outcome {
        Err(Error::Device { detail, .. }) => detail.to_lowercase(),
        other => panic!("expected a device error, got {other:?}"),
    }
}

fn run_source(gpu: &Gpu, source: &Source) -> Result<()> {
    let pass = Pass { params: [1; 8], inputs: vec![vec![0_u8; 64].into()], output_bytes: 64, n_groups: 1 };
    gpu.run(source, [pass], |_, _| Ok(()))
}

#[test]
fn a_shader_that_does_not_compile_is_an_error_and_the_device_goes_on() {
    for gpu in opened() {
        let broken = Source { name: "broken", wgsl: "fn main( {", entry: "main" };
        assert!(detail(run_source(&gpu, &broken)).contains("expected"));
        let absent = Source { name: "absent entry", entry: "elsewhere", ..DOUBLE };
        assert!(detail(run_source(&gpu, &absent)).contains("elsewhere"));
        assert_works(&gpu);
    }
}

#[test]
fn bindings_that_do_not_fit_the_shader_are_an_error() {
    for gpu in opened() {
        let pass = Pass { params: [1; 8], inputs: vec![], output_bytes: 64, n_groups: 1 };
        let outcome = gpu.run(&DOUBLE, [pass], |_, _| panic!("no output may be seen"));
        assert!(detail(outcome).contains("bind"));
        assert_works(&gpu);
    }
}

#[test]
fn an_absurd_buffer_is_an_error() {
    for gpu in opened() {
        let outcome = gpu.guarded("absurd", || Ok(gpu.buffer(1 << 60, wgpu::BufferUsages::STORAGE)));
        assert!(detail(outcome).contains("buffer"));
        let pass = Pass { params: [1; 8], inputs: vec![], output_bytes: 1 << 60, n_groups: 1 };
        let outcome = gpu.run(&DOUBLE, [pass], |_, _| panic!("no output may be seen"));
        assert!(matches!(outcome, Err(Error::TooLarge { got_bytes, .. }) if got_bytes == 1 << 60));
        assert_works(&gpu);
    }
}

#[test]
fn an_absurd_dispatch_is_an_error() {
    for gpu in opened() {
        let pass = Pass { params: [0; 8], inputs: vec![vec![0_u8; 64].into()], output_bytes: 64, n_groups: u32::MAX };
        let outcome = gpu.run(&DOUBLE, [pass], |_, _| panic!("no output may be seen"));
        assert!(detail(outcome).contains("dispatch"));
        assert_works(&gpu);
    }
}

#[test]
fn a_lost_device_is_an_error_from_then_on() {
    for gpu in opened() {
        assert_works(&gpu);
        gpu.device.destroy();
        for _ in 0..3 {
            detail(double(&gpu, &[1, 2, 3, 4]));
        }
    }
}

#[test]
fn a_device_lost_between_two_passes_is_an_error() {
    for gpu in opened() {
        let x = vec![7_u32; 1024];
        let pass = || Pass {
            params: [1024, 0, 0, 0, 0, 0, 0, 0],
            inputs: vec![bytemuck::cast_slice(&x).into()],
            output_bytes: 4096,
            n_groups: 16,
        };
        let outcome = gpu.run(&DOUBLE, (0..8).map(|_| pass()), |_, bytes| {
            assert_eq!(bytemuck::cast_slice::<u8, u32>(bytes), vec![14; 1024]);
            gpu.device.destroy();
            Ok(())
        });
        detail(outcome);
    }
}

#[test]
fn a_panic_in_the_driver_layer_is_an_error() {
    for gpu in opened() {
        let outcome: Result<()> = gpu.guarded("panic", || panic!("as poll does on a lost device"));
        assert!(detail(outcome).contains("as poll does"));
        assert_works(&gpu);
    }
}

#[test]
fn a_fault_of_one_thread_is_not_seen_by_another() {
    for gpu in opened() {
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let gpu = &gpu;
                scope.spawn(move || {
                    for _ in 0..20 {
                        if worker % 2 == 0 {
                            assert_works(gpu);
                        } else {
                            let huge = gpu.guarded("absurd", || Ok(gpu.buffer(1 << 60, wgpu::BufferUsages::STORAGE)));
                            detail(huge);
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn an_error_of_the_taker_ends_the_run_and_leaves_the_device_usable() {
    for gpu in opened() {
        let stop = Error::Choice { got: "stop".to_owned() };
        let x = [1_u32; 64];
        let pass = || Pass {
            params: [64, 0, 0, 0, 0, 0, 0, 0],
            inputs: vec![bytemuck::cast_slice(&x).into()],
            output_bytes: 256,
            n_groups: 1,
        };
        let outcome = gpu.run(&DOUBLE, (0..5).map(|_| pass()), |_, _| Err(stop.clone()));
        assert_eq!(outcome, Err(stop));
        assert_works(&gpu);
    }
}
