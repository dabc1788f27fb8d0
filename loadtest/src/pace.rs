use std::time::Duration;

/// When a publisher's publications are due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as acknowledgements come.
    Free,
    /// On a schedule that does not wait for the server: what falls behind is still due when it was,
    /// so that a stall counts for every publication it held up and not only for the first.
    Scheduled {
        /// Due time of the first, after the start.
        first: Duration,
        interval: Duration,
    },
}

impl Pace {
    /// The share of one of `publishers` in `rate` a second; they take turns. Zero is no schedule.
    pub(crate) fn share(rate: u32, publisher: u32, publishers: u32) -> Self {
        if rate == 0 {
            return Self::Free;
        }
        let all = Duration::from_secs(1).div_f64(f64::from(rate));
        Self::Scheduled { first: all * publisher, interval: all.mul_f64(f64::from(publishers)) }
    }

    /// When publication `number`, from zero, is due after the start; `None` for as soon as it can be.
    pub(crate) fn due(self, number: u32) -> Option<Duration> {
        match self {
            Self::Free => None,
            Self::Scheduled { first, interval } => {
                Some(first + interval.mul_f64(f64::from(number)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_take_turns_and_make_the_rate_together() {
        let due = |publisher, number| Pace::share(1_000, publisher, 4).due(number);

        assert_eq!(due(0, 0), Some(Duration::ZERO));
        assert_eq!(due(1, 0), Some(Duration::from_millis(1)));
        assert_eq!(due(3, 0), Some(Duration::from_millis(3)));
        assert_eq!(due(0, 1), Some(Duration::from_millis(4)));
        assert_eq!(due(0, 250), Some(Duration::from_secs(1)));
    }

    #[test]
    fn without_a_rate_nothing_is_due() {
        assert_eq!(Pace::share(0, 0, 4).due(9), None);
    }
}
