//! Shows that a model is being loaded, and how far: a bar on a terminal, otherwise lines in the log.
//!
//! In: the share of the weights that is loaded. Out: nothing, until it has taken a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use tokio::sync::watch;

/// What takes less is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks for the bar.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two lines in the log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the loading of the model `id` until dropped.
pub async fn show<T>(id: &str, share: watch::Receiver<f32>) -> T {
    tokio::time::sleep(PATIENCE).await;
    let begun = Instant::now();
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {msg:.40} [{bar:20}] {percent:>3} %");
        ProgressBar::new(100)
            .with_style(style.expect("the template is sound"))
            .with_message(format!("loading {id}"))
            .with_finish(ProgressFinish::AndClear)
    });
    let mut lines = Lines::default();
    loop {
        let percent = (*share.borrow() * 100.0) as u64;
        match &bar {
            Some(bar) => {
                bar.set_position(percent);
                bar.tick();
            }
            None if lines.due(begun.elapsed()) => tracing::info!("loading {id}: {percent} %"),
            None => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// When the next line is to be written.
#[derive(Default)]
struct Lines {
    next: Duration,
}

impl Lines {
    /// Whether one is, `elapsed` after the first.
    fn due(&mut self, elapsed: Duration) -> bool {
        let due = elapsed >= self.next;
        if due {
            self.next = elapsed + LINE_EVERY;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_at_once_and_then_one_every_five_seconds() {
        let mut lines = Lines::default();
        let due = (0..=120).filter(|tenths| lines.due(LOOK_EVERY * *tenths));
        assert_eq!(due.collect::<Vec<u32>>(), [0, 50, 100]);
    }
}
