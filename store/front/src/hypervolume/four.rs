//! Volumes in four objectives: falling in the last, each new corner adds its exclusive volume in the other three, times its
//! last.
#![allow(clippy::needless_bitwise_bool, reason = "a branch that cannot be foreseen costs more than both comparisons")]

use super::low::Stairs;

/// Corners by falling last coordinate.
pub(super) fn sorted(corners: &[[f64; 4]]) -> Vec<[f64; 4]> {
    let mut corners = corners.to_vec();
    corners.sort_unstable_by(|a, b| b[3].total_cmp(&a[3]));
    corners
}

/// Scratch of the computation, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Four {
    /// Corners in three coordinates, by falling z, none within another's box.
    front: Vec<[f64; 3]>,
    rest: Rest,
    stairs: Stairs,
}

impl Four {
    /// Volume of boxes from 0 to each corner.
    ///
    /// `first` shares the last coordinate `height` and falls in z; all of `then` lie lower and fall in the last coordinate.
    pub(super) fn volume(
        &mut self,
        height: f64,
        first: impl Iterator<Item = [f64; 3]>,
        then: impl Iterator<Item = [f64; 4]>,
    ) -> f64 {
        let mut total = height * self.start(first);
        for [x, y, z, w] in then {
            total += w * self.add([x, y, z]);
        }
        total
    }

    /// Starts with corners that fall in z; returns their volume.
    fn start(&mut self, corners: impl Iterator<Item = [f64; 3]>) -> f64 {
        self.front.clear();
        self.stairs.clear();
        let mut corners = corners.peekable();
        let Some(top) = corners.peek().map(|c| c[2]) else { return 0.0 };
        // Of those at the top only what none of the others there covers.
        let mut area = 0.0;
        while let Some([x, y, _]) = corners.next_if(|c| c[2] == top) {
            area += self.stairs.add(x, y);
        }
        self.front.extend(self.stairs.steps().iter().map(|s| [s.0, s.1, top]));
        let mut volume = area * top;
        for [x, y, z] in corners {
            let grown = self.stairs.add(x, y);
            if grown > 0.0 {
                volume += z * grown;
                self.front.push([x, y, z]);
            }
        }
        volume
    }

    /// Adds a corner; returns by how much the volume grows.
    fn add(&mut self, corner: [f64; 3]) -> f64 {
        let [x, y, z] = corner;
        let (mut below, mut left) = (0.0, 0.0);
        let mut at = 0;
        for c in &self.front {
            if c[2] < z {
                break;
            }
            let (wide, high) = (c[0] >= x, c[1] >= y);
            if wide & high {
                return 0.0;
            }
            below = greater(below, if wide { c[1] } else { 0.0 });
            left = greater(left, if high { c[0] } else { 0.0 });
            at += 1;
        }
        // Downwards from the corner: what is left of its rectangle at each height.
        let (upper, lower) = self.front.split_at(at);
        self.rest.open(x, y, left, below, upper);
        let (mut grown, mut top, mut area) = (0.0, z, self.rest.area());
        let mut n_covered = 0;
        for c in lower {
            n_covered += usize::from((c[0] <= x) & (c[1] <= y));
            if self.rest.cut(c[0], c[1]) {
                grown += area * (top - c[2]);
                top = c[2];
                area = self.rest.area();
                if self.rest.is_empty() {
                    // The lower ones lie outside the corner's box, or within the box of this one.
                    break;
                }
            }
        }
        grown += area * top;
        if n_covered > 0 {
            let mut kept = at;
            for i in at..self.front.len() {
                let c = self.front[i];
                self.front[kept] = c;
                kept += usize::from((c[0] > x) | (c[1] > y));
            }
            self.front.truncate(kept);
        }
        self.front.insert(at, corner);
        grown
    }
}

/// The greater of two that are numbers.
fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// What is left of a rectangle `[0, x] × [0, y]` after others, all from 0, are cut out of it.
///
/// Those as wide as it cut a strip off below, those as high a strip off the left; the others leave steps in the remainder.
#[derive(Debug, Default)]
struct Rest {
    x: f64,
    y: f64,
    left: f64,
    below: f64,
    /// Corners inside the remainder: x falls and y rises, but for ties.
    steps: Vec<(f64, f64)>,
}

impl Rest {
    /// A rectangle less strips and less those of `cut` that reach beyond the strips.
    fn open(&mut self, x: f64, y: f64, left: f64, below: f64, cut: &[[f64; 3]]) {
        (self.x, self.y, self.left, self.below) = (x, y, left, below);
        self.steps.clear();
        for c in cut {
            if (c[0] < x) & (c[1] < y) & (c[0] > left) & (c[1] > below) {
                self.step(c[0], c[1]);
            }
        }
    }

    /// Whether nothing is left.
    fn is_empty(&self) -> bool {
        self.left >= self.x || self.below >= self.y
    }

    /// Cuts one more out; whether that changed anything.
    fn cut(&mut self, x: f64, y: f64) -> bool {
        if (x <= self.left) | (y <= self.below) {
            return false;
        }
        if x >= self.x {
            self.below = if y < self.y { y } else { self.y };
            let covered = self.steps.iter().take_while(|s| s.1 <= y).count();
            if covered > 0 {
                self.steps.drain(..covered);
            }
            true
        } else if y >= self.y {
            self.left = x;
            while self.steps.last().is_some_and(|s| s.0 <= x) {
                self.steps.pop();
            }
            true
        } else {
            self.step(x, y)
        }
    }

    fn step(&mut self, x: f64, y: f64) -> bool {
        let at = self.steps.iter().take_while(|s| s.0 > x).count();
        if at > 0 && self.steps[at - 1].1 >= y {
            return false;
        }
        let covered = self.steps[at..].iter().take_while(|s| s.1 <= y).count();
        if covered == 0 {
            self.steps.insert(at, (x, y));
        } else {
            self.steps[at] = (x, y);
            self.steps.drain(at + 1..at + covered);
        }
        true
    }

    fn area(&self) -> f64 {
        let mut area = (self.x - self.left) * (self.y - self.below);
        let mut floor = self.below;
        for (x, y) in &self.steps {
            area -= (x - self.left) * (y - floor);
            floor = *y;
        }
        greater(area, 0.0)
    }
}
