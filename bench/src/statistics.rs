//! Median, minimum and maximum. Means are left to those whose noise is symmetric.

/// What is quoted of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Summary {
    /// Of all numbers given; `None` when there are none.
    pub(crate) fn of(series: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = series.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        Some(Self { median: f64::midpoint(sorted[lower], sorted[upper]), min, max })
    }

    /// `median (min … max)` with `decimals` digits after the point.
    pub(crate) fn shown(&self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$} … {max:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_series() {
        let odd = Summary::of([3.0, -1.0, 10.0]).unwrap();
        assert_eq!(odd, Summary { median: 3.0, min: -1.0, max: 10.0 });
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 8.0]).unwrap().median, 3.0);
        assert_eq!(Summary::of([0.25]).unwrap().shown(1), "0.2 (0.2 … 0.2)");
        assert_eq!(Summary::of([]), None);
    }
}
