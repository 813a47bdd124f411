//! Families of metrics whose values are read at the moment of a scrape.

use std::collections::HashMap;
use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

/// There are no exemplars.
const NONE: Option<&Exemplar<NoLabelSet, f64>> = None;
const NONE_OF_BUCKETS: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;

/// Writes families. Each has its labels and values in the order of the iterator.
pub(super) struct Families<'a>(DescriptorEncoder<'a>);

/// The values of one histogram.
pub(super) struct Buckets<'a> {
    pub(super) bounds: &'a [f64],
    /// For each bound, the number of values that are not above it.
    pub(super) up_to: &'a [u64],
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl<'a> Families<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    fn family<'s>(
        &'s mut self,
        (name, help): (&'s str, &str),
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, &format!("{help}."), None, kind)
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.family((name, help), MetricType::Gauge)?.encode_gauge(&value)
    }

    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.family((name, help), MetricType::Gauge)?;
        values.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    /// Writes a counter without labels. The name on its line ends with `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        self.family((name, help), MetricType::Counter)?.encode_counter(&value, NONE)
    }

    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.family((name, help), MetricType::Counter)?;
        values
            .into_iter()
            .try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_counter(&value, NONE))
    }

    pub(super) fn histograms<'b, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, Buckets<'b>)>,
    ) -> fmt::Result {
        let mut family = self.family((name, help), MetricType::Histogram)?;
        values.into_iter().try_for_each(|(labels, of)| {
            // The encoder adds them up.
            let mut below = 0;
            let all =
                of.bounds.iter().copied().zip(of.up_to.iter().copied()).chain([(f64::INFINITY, of.count)]);
            let each: Vec<_> = all
                .map(|(bound, up_to)| (bound, up_to.saturating_sub(std::mem::replace(&mut below, up_to))))
                .collect();
            family.encode_family(&labels)?.encode_histogram(of.sum, of.count, &each, NONE_OF_BUCKETS)
        })
    }
}
