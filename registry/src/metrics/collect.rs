//! Writing families of metrics. Used by the files beside it.

use std::fmt::Result;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::measure::Durations;

/// The labels of one metric, by name and value.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// What a family is called, what it means, and what it counts in.
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    pub(super) help: &'a str,
    pub(super) unit: Option<Unit>,
}

impl<'a> Family<'a> {
    pub(super) fn new(name: &'a str, help: &'a str) -> Self {
        Self {
            name,
            help,
            unit: None,
        }
    }

    pub(super) fn bytes(name: &'a str, help: &'a str) -> Self {
        Self {
            unit: Some(Unit::Bytes),
            ..Self::new(name, help)
        }
    }

    pub(super) fn seconds(name: &'a str, help: &'a str) -> Self {
        Self {
            unit: Some(Unit::Seconds),
            ..Self::new(name, help)
        }
    }

    fn begin<'e>(
        &'e self,
        encoder: &'e mut DescriptorEncoder<'_>,
        kind: MetricType,
    ) -> std::result::Result<MetricEncoder<'e>, std::fmt::Error> {
        encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)
    }

    /// Writes one counter.
    pub(super) fn counter(&self, encoder: &mut DescriptorEncoder<'_>, count: u64) -> Result {
        self.begin(encoder, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&count, None)
    }

    /// Writes one counter of fractions.
    pub(super) fn fractions(&self, encoder: &mut DescriptorEncoder<'_>, count: f64) -> Result {
        self.begin(encoder, MetricType::Counter)?
            .encode_counter::<NoLabelSet, f64, f64>(&count, None)
    }

    /// Writes a counter for each row.
    pub(super) fn counters<'r, const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        rows: impl IntoIterator<Item = (Labels<'r, N>, u64)>,
    ) -> Result {
        let mut family = self.begin(encoder, MetricType::Counter)?;
        for (labels, count) in rows {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        Ok(())
    }

    /// Writes one gauge.
    pub(super) fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        value: impl EncodeGaugeValue,
    ) -> Result {
        self.begin(encoder, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Writes a histogram for each row.
    pub(super) fn histograms<'r, const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        rows: impl IntoIterator<Item = (Labels<'r, N>, Durations)>,
    ) -> Result {
        let mut family = self.begin(encoder, MetricType::Histogram)?;
        for (labels, durations) in rows {
            let Durations {
                sum,
                count,
                classes,
            } = durations;
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &classes, None)?;
        }
        Ok(())
    }

    /// Writes what a program is.
    pub(super) fn info<const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        labels: Labels<'_, N>,
    ) -> Result {
        self.begin(encoder, MetricType::Info)?.encode_info(&labels)
    }
}
