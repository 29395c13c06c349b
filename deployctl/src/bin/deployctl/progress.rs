//! Progress bars: on stderr, where that is a terminal, and nowhere else.

use std::time::Duration;

use deployctl::client::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A transfer's bar; gone when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Returns a bar for a transfer of something called `name`, of so many bytes where known.
    pub(crate) fn new(name: &str, length: Option<u64>) -> Self {
        // Draws nothing where stderr is no terminal.
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let template = match length {
            Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        bar.set_style(style);
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// Returns what moves the bar.
    pub(crate) fn progress(&self) -> Progress {
        let bar = self.0.clone();
        Progress::new(move |position| bar.set_position(position))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
