//! Volumes in four objectives: falling in the last, each new corner adds its exclusive volume in the other three, times its
//! last.

use super::low::Stairs;

/// Corners by falling last coordinate.
pub(super) fn sorted(corners: &[[f64; 4]]) -> Vec<[f64; 4]> {
    let mut corners = corners.to_vec();
    corners.sort_unstable_by(|a, b| b[3].total_cmp(&a[3]));
    corners
}

/// Volume of boxes from 0 to each corner, sorted by falling last coordinate.
pub(super) fn volume(corners: &[[f64; 4]]) -> f64 {
    Four::default().volume(corners)
}

/// Scratch of the computation, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Four {
    /// Corners in three coordinates, by falling z, none within another's box.
    front: Vec<[f64; 3]>,
    stairs: Stairs,
}

impl Four {
    pub(super) fn volume(&mut self, corners: &[[f64; 4]]) -> f64 {
        self.front.clear();
        let mut total = 0.0;
        for [x, y, z, w] in corners {
            total += w * self.add(*x, *y, *z);
        }
        total
    }

    /// Adds a corner; returns by how much the volume grows.
    fn add(&mut self, x: f64, y: f64, z: f64) -> f64 {
        let at = self.front.partition_point(|c| c[2] >= z);
        if self.front[..at].iter().any(|c| c[0] >= x && c[1] >= y) {
            return 0.0;
        }
        // What the front already has of the box, from the top down.
        self.stairs.clear();
        let mut shared = 0.0;
        let mut area = 0.0;
        for c in &self.front[..at] {
            area += self.stairs.add(c[0].min(x), c[1].min(y));
        }
        shared += z * area;
        for c in &self.front[at..] {
            shared += c[2] * self.stairs.add(c[0].min(x), c[1].min(y));
        }
        let mut kept = at;
        for i in at..self.front.len() {
            let c = self.front[i];
            if c[0] > x || c[1] > y {
                self.front[kept] = c;
                kept += 1;
            }
        }
        self.front.truncate(kept);
        self.front.insert(at, [x, y, z]);
        (x * y * z - shared).max(0.0)
    }
}
