//! Defines what is said of many numbers in one.

/// The value that half of `values` are not above; 0 of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// The value that a share of `part` of `sorted` are not above; 0 of none.
pub(crate) fn quantile(sorted: &[u32], part: f64) -> u32 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

/// Coefficient of variation: the standard deviation in parts of the mean.
pub(crate) fn variation(values: &[u64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<u64>() as f64 / count;
    if mean.is_nan() || mean == 0.0 {
        return 0.0;
    }
    let squares = values.iter().map(|&value| (value as f64 - mean).powi(2));
    (squares.sum::<f64>() / count).sqrt() / mean
}

/// `part` for each of `all`; 0 where there are none.
pub(crate) fn ratio(part: f64, all: f64) -> f64 {
    if all == 0.0 { 0.0 } else { part / all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
        let hundred: Vec<u32> = (1..=100).collect();
        let found = [0.0, 0.5, 0.99, 1.0].map(|part| quantile(&hundred, part));
        assert_eq!(found, [1, 50, 99, 100]);
        assert_eq!(quantile(&[], 0.5), 0);
        assert_eq!(variation(&[]), 0.0);
        assert_eq!(variation(&[0, 0]), 0.0);
        assert_eq!(variation(&[1, 3]), 0.5);
        assert_eq!(ratio(1.0, 0.0), 0.0);
    }
}
