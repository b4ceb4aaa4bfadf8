//! Spherical interpolation.

use crate::error::Result;
use crate::lanes;
use crate::run::Work;

/// Beyond this cosine the arc is taken for a line.
const STRAIGHT: f64 = 0.9995;

/// sin((1−t)ω)/sin ω · u + sin(tω)/sin ω · v on the tensors as they are, ω the angle between them; (1−t)·u + t·v where they
/// point almost the same or opposite ways. u is the base.
pub(super) fn merge(work: &mut Work<'_>) -> Result<()> {
    let t = work.args.shared("t");
    let mut sums = [0.0; 3];
    work.look(|_, x| {
        for (sum, part) in sums.iter_mut().zip(lanes::moments(&x[1], &x[0])) {
            *sum += part;
        }
    })?;
    let [uu, vv, uv] = sums;
    let length = |square: f64| if square.sqrt() > 1e-8 { square.sqrt() } else { 1.0 };
    let cosine = (uv / (length(uu) * length(vv))).clamp(-1.0, 1.0);
    let (of_base, of_other) = if cosine.abs() > STRAIGHT {
        (1.0 - t, t)
    } else {
        let angle = cosine.acos();
        (((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin())
    };
    let mut mixed = Vec::new();
    work.pass(|_, x, out| {
        mixed.resize(x[0].len(), 0.0);
        lanes::combine(&mut mixed, of_base as f32, &x[1], of_other as f32, &x[0]);
        out.put(&mixed)
    })
}
