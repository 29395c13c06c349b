//! Progress bars, one a layer: on stderr, where that is a terminal, and nowhere else.

use std::time::Duration;

use deployctl::client::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The bars of an import; gone when dropped.
pub(crate) struct Bars {
    all: MultiProgress,
    layers: Vec<(String, u64)>,
}

impl Bars {
    /// Returns bars for layers of these names and sizes in bytes. A bar is shown from its layer's
    /// turn on.
    pub(crate) fn new(layers: Vec<(String, u64)>) -> Self {
        Self {
            all: MultiProgress::new(),
            layers,
        }
    }

    /// Returns what moves the bar of a layer.
    pub(crate) fn progress(&self, index: usize) -> Progress {
        let Some((name, size)) = self.layers.get(index).filter(|(_, size)| *size > 0) else {
            return Progress::none();
        };
        let bar = self.all.add(ProgressBar::new(*size));
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        bar.set_style(style);
        bar.set_message(name.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        let size = *size;
        Progress::new(move |position| {
            bar.set_position(position);
            if position >= size {
                bar.finish();
            }
        })
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // Where there is no terminal there is nothing to clear.
        drop(self.all.clear());
    }
}
