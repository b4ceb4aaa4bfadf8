//! Volumes in two and three objectives, by sweeps.

/// Area of boxes from 0 to each corner.
pub(super) fn two(mut corners: Vec<[f64; 2]>) -> f64 {
    corners.sort_unstable_by(|a, b| b[0].total_cmp(&a[0]));
    let (mut area, mut height) = (0.0, 0.0);
    for [x, y] in corners {
        if y > height {
            area += x * (y - height);
            height = y;
        }
    }
    area
}

/// Volume of boxes from 0 to each corner: falling in z, each new corner adds to the area of all heights below its own.
pub(super) fn three(mut corners: Vec<[f64; 3]>) -> f64 {
    corners.sort_unstable_by(|a, b| b[2].total_cmp(&a[2]));
    let mut stairs = Stairs::default();
    corners.iter().map(|[x, y, z]| z * stairs.add(*x, *y)).sum()
}

/// Corners of a plane, none within another's box: x falls (or stays, where they tie) and y rises.
#[derive(Debug, Default)]
pub(super) struct Stairs {
    steps: Vec<(f64, f64)>,
}

impl Stairs {
    pub(super) fn clear(&mut self) {
        self.steps.clear();
    }

    /// Corners: x falls and y rises.
    pub(super) fn steps(&self) -> &[(f64, f64)] {
        &self.steps
    }

    /// Adds a corner; returns by how much the area grows.
    pub(super) fn add(&mut self, x: f64, y: f64) -> f64 {
        let steps = &mut self.steps;
        // Those before `at` are wider.
        let at = steps.partition_point(|s| s.0 >= x);
        let mut floor = if at > 0 { steps[at - 1].1 } else { 0.0 };
        if floor >= y {
            return 0.0;
        }
        // From the floor up to y: what is narrower and lower is covered, what is narrower and higher cuts off.
        let mut grown = 0.0;
        let mut to = at;
        let mut inner = 0.0;
        while let Some((narrow, high)) = steps.get(to).copied() {
            if high > y {
                inner = narrow;
                break;
            }
            grown += (x - narrow) * (high - floor);
            floor = high;
            to += 1;
        }
        grown += (x - inner) * (y - floor);
        if to > at {
            steps[at] = (x, y);
            steps.drain(at + 1..to);
        } else {
            steps.insert(at, (x, y));
        }
        grown
    }
}
