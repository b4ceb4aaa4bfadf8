//! Volumes in five and six objectives: slices along the last objective, exclusive volumes by limit sets.
//!
//! The exclusive volume of a corner is its box less the volume of the others clipped to it (the limit set), which has few
//! corners left that no other covers.

use super::four::Four;

/// Volume of boxes from 0 to each corner.
pub(super) fn five(mut corners: Vec<[f64; 5]>) -> f64 {
    corners.sort_unstable_by(|a, b| b[4].total_cmp(&a[4]));
    Five::default().volume(&corners)
}

/// Scratch of five objectives.
#[derive(Debug, Default)]
struct Five {
    /// Corners in four coordinates, by falling last.
    front: Vec<[f64; 4]>,
    /// The same by falling third.
    by_third: Vec<[f64; 4]>,
    four: Four,
}

impl Five {
    /// `corners` fall in the last coordinate.
    fn volume(&mut self, corners: &[[f64; 5]]) -> f64 {
        self.front.clear();
        self.by_third.clear();
        let mut total = 0.0;
        for [x, y, z, w, last] in corners {
            total += last * self.add([*x, *y, *z, *w]);
        }
        total
    }

    fn add(&mut self, corner: [f64; 4]) -> f64 {
        if self.front.iter().any(|c| covers(c, &corner)) {
            return 0.0;
        }
        let at = self.front.partition_point(|c| c[3] >= corner[3]);
        let [x, y, z, w] = corner;
        // Clipped to the corner, those as high in the last coordinate are equally high.
        let high = self.by_third.iter().filter(|c| c[3] >= w).map(|c| clip(&[c[0], c[1], c[2]], &[x, y, z]));
        let shared = self.four.volume(w, high, self.front[at..].iter().map(|c| clip(c, &corner)));
        self.front.retain(|c| !covers(&corner, c));
        self.front.insert(self.front.partition_point(|c| c[3] >= w), corner);
        self.by_third.retain(|c| !covers(&corner, c));
        self.by_third.insert(self.by_third.partition_point(|c| c[2] >= z), corner);
        (corner.iter().product::<f64>() - shared).max(0.0)
    }
}

/// Volume of boxes from 0 to each corner.
pub(super) fn six(mut corners: Vec<[f64; 6]>) -> f64 {
    corners.sort_unstable_by(|a, b| b[5].total_cmp(&a[5]));
    let mut five = Five::default();
    // Corners in five coordinates, by falling last.
    let mut front: Vec<[f64; 5]> = Vec::new();
    let mut limit: Vec<[f64; 5]> = Vec::new();
    let mut total = 0.0;
    for corner in corners {
        let (Some(corner), last) = (corner.first_chunk::<5>().copied(), corner[5]) else { continue };
        if front.iter().any(|c| covers(c, &corner)) {
            continue;
        }
        limit.clear();
        for c in &front {
            let clipped = clip(c, &corner);
            if !limit.iter().any(|other| covers(other, &clipped)) {
                limit.retain(|other| !covers(&clipped, other));
                limit.push(clipped);
            }
        }
        let shared = five.volume(&limit);
        front.retain(|c| !covers(&corner, c));
        let at = front.partition_point(|c| c[4] >= corner[4]);
        front.insert(at, corner);
        total += last * (corner.iter().product::<f64>() - shared).max(0.0);
    }
    total
}

/// Whether the box of `b` lies in that of `a`.
fn covers<const M: usize>(a: &[f64; M], b: &[f64; M]) -> bool {
    let mut covers = true;
    for k in 0..M {
        covers &= a[k] >= b[k];
    }
    covers
}

fn clip<const M: usize>(a: &[f64; M], to: &[f64; M]) -> [f64; M] {
    std::array::from_fn(|k| if a[k] < to[k] { a[k] } else { to[k] })
}
