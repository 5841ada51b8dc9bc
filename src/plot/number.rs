//! Numbers as a reader wants them.

/// `12.3 G` and the unit, with three digits or all before the point.
pub fn si(x: f64, unit: &str) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x} {unit}").trim_end().to_owned();
    }
    let found = PREFIXES.iter().find(|(size, _)| x.abs() >= 0.9999 * size);
    let (size, prefix) = found.copied().unwrap_or((1.0, ""));
    let scaled = x / size;
    let decimals = 2 - (scaled.abs().log10().floor() as i32).clamp(-1, 2);
    let digits = trimmed(format!("{scaled:.*}", decimals as usize));
    format!("{digits} {prefix}{unit}").trim_end().to_owned()
}

/// A number with `digits` significant digits, in powers of ten where it is very large or small.
pub fn number(x: f64, digits: usize) -> String {
    if x == 0.0 || !x.is_finite() {
        return x.to_string();
    }
    let power = x.abs().log10().floor() as i32;
    let behind = digits as i32 - 1 - power;
    match (-4..=6).contains(&power) {
        true => trimmed(format!("{x:.*}", behind.max(0) as usize)),
        false => {
            let text = format!("{x:.*e}", digits.saturating_sub(1));
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{power}", trimmed(digits.to_owned()))
        }
    }
}

/// `1 h 02 min`, `3 min 04 s`, `5.2 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{} s", number(seconds, 3)),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole / 3600 % 24),
    }
}

/// Without zeros behind the last digit that says something.
pub(super) fn trimmed(mut digits: String) -> String {
    if digits.contains('.') {
        digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
    }
    if digits == "-0" { "0".to_owned() } else { digits }
}

const PREFIXES: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_they_need() {
        for (x, expected) in [
            (0.0, "0 B"),
            (1.0, "1 B"),
            (999.95, "1 kB"),
            (1234.0, "1.23 kB"),
            (-2.5e6, "-2.5 MB"),
            (12.34, "12.3 B"),
            (0.0625, "0.062 B"),
            (5e17, "500 PB"),
        ] {
            assert_eq!(si(x, "B"), expected);
        }
        assert_eq!(si(2e9, ""), "2 G");
        for (x, expected) in [
            (3.24159, "3.242"),
            (0.00012345, "0.0001234"),
            (1.2e-9, "1.2e-9"),
            (123456.0, "123456"),
            (1e9, "1e9"),
            (-0.5, "-0.5"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(x, 4), expected);
        }
    }

    #[test]
    fn durations_read_well() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (5.24, "5.24 s"),
            (184.0, "3 min 04 s"),
            (3725.0, "1 h 02 min"),
            (90_000.0, "1 d 01 h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
