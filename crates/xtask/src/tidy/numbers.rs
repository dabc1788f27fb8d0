//! The numbers worth watching, printed so that they can only improve.

use super::source::Source;

/// Prints size, spread and density of the code that ships.
pub(super) fn show(sources: &[Source]) {
    let mut lengths: Vec<usize> =
        sources.iter().map(|source| source.product_lines).filter(|lines| *lines > 0).collect();
    lengths.sort_unstable();
    let product: usize = lengths.iter().sum();
    let tests: usize = sources.iter().map(|source| source.test_lines).sum();
    let unwraps = count(sources, ".unwrap()");
    let expects = count(sources, ".expect(");

    println!(
        "{} files, {product} lines, length median {} / p90 {} / max {}",
        lengths.len(),
        percentile(&lengths, 50),
        percentile(&lengths, 90),
        percentile(&lengths, 100),
    );
    println!("{tests} lines of tests, {} per 100 that ship", tests * 100 / product.max(1));
    println!("{unwraps} unwraps and {expects} expects outside tests");
}

fn count(sources: &[Source], call: &str) -> usize {
    sources.iter().map(|source| source.product.matches(call).count()).sum()
}

/// The smallest length that `percent` of the files do not exceed; zero without files.
fn percentile(sorted: &[usize], percent: usize) -> usize {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_a_length_that_occurs() {
        let lengths: Vec<usize> = (1..=10).collect();

        assert_eq!(percentile(&lengths, 50), 5);
        assert_eq!(percentile(&lengths, 90), 9);
        assert_eq!(percentile(&lengths, 100), 10);
        assert_eq!(percentile(&[], 50), 0);
    }
}
