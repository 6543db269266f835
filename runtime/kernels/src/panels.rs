//! How the rows of a product go to the threads: in panels, numbered in order, each of which is taken by whoever is free.
//!
//! Panels become smaller towards the end. So threads of the same speed are done at about the same time, one on a slower
//! core takes fewer, and memory is read in long stretches.

use std::ops::Range;

/// The panels of a product, as far as one thread has come.
pub(crate) struct Panels {
    rows: usize,
    threads: usize,
    most: usize,
    together: usize,
    /// As many panels as there are threads are of the same size. The first one's number and row, and their rows.
    number: usize,
    first: usize,
    size: usize,
}

impl Panels {
    /// Those of `rows` rows for `threads` threads, of at most `most` rows each and a multiple of `together` (the last one
    /// aside).
    pub fn new(rows: usize, threads: usize, (most, together): (usize, usize)) -> Self {
        let mut panels = Self {
            rows,
            threads,
            most,
            together,
            number: 0,
            first: 0,
            size: 0,
        };
        panels.choose_size();
        panels
    }

    /// Half of what is left is for as many panels as there are threads.
    fn choose_size(&mut self) {
        let half = (self.rows - self.first) / (2 * self.threads);
        self.size = half.min(self.most).max(1).next_multiple_of(self.together);
    }

    /// The rows of the panel of number `number`, which is not below that of a call before; nothing beyond the last one.
    pub fn rows_of(&mut self, number: usize) -> Option<Range<usize>> {
        while number >= self.number + self.threads && self.rows_left() > self.size * self.threads {
            self.number += self.threads;
            self.first += self.size * self.threads;
            self.choose_size();
        }
        let first = self.first + (number - self.number) * self.size;
        (first < self.rows).then(|| first..(first + self.size).min(self.rows))
    }

    /// How many there are, after the last one has been asked for.
    pub fn count(&self) -> usize {
        self.number + self.rows_left().div_ceil(self.size)
    }

    fn rows_left(&self) -> usize {
        self.rows - self.first
    }
}

#[cfg(test)]
mod tests {
    use super::Panels;

    #[test]
    fn panels_cover_the_rows_and_become_smaller() {
        for (rows, threads, most, together) in [
            (4864, 2, usize::MAX, 16),
            (151_936, 4, 256, 32),
            (1000, 3, 64, 4),
            (7, 8, 3, 1),
            (1, 2, usize::MAX, 16),
        ] {
            let mut panels = Panels::new(rows, threads, (most, together));
            let (mut covered, mut number, mut last) = (0, 0, usize::MAX);
            while let Some(panel) = panels.rows_of(number) {
                assert_eq!(panel.start, covered);
                assert!(panel.len() <= most.max(together).min(last), "{panel:?}");
                assert!(panel.end == rows || panel.len().is_multiple_of(together));
                (covered, last) = (panel.end, panel.len());
                number += 1;
            }
            assert_eq!((covered, panels.count()), (rows, number));
            // A thread that took none comes to the same number.
            let mut others = Panels::new(rows, threads, (most, together));
            assert_eq!(others.rows_of(number + threads), None);
            assert_eq!(others.count(), number);
        }
    }

    #[test]
    fn two_threads_have_about_the_same_to_do() {
        let mut panels = Panels::new(4864, 2, (usize::MAX, 16));
        let sizes: Vec<usize> = (0..)
            .map_while(|n| panels.rows_of(n).map(|p| p.len()))
            .collect();
        assert_eq!(sizes[..4], [1216, 1216, 608, 608]);
        assert!(sizes.last().is_some_and(|last| *last <= 32), "{sizes:?}");
    }
}
