//! Points of a grid, as settings to be laid over a scenario file.

/// An axis of a grid: `a.b=v1,v2`, or several keys that change together, `a.b+c.d=v1:w1,v2:w2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    keys: Vec<String>,
    /// By place: a value for each key.
    values: Vec<Vec<String>>,
}

impl Axis {
    /// Reads an axis, or says what is wrong with it. Commas and colons within brackets, braces or
    /// quotes are part of a value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "write key=value,value or key+key=value:value,value:value";
        let (keys, values) =
            text.split_once('=').ok_or_else(|| format!("--grid {text}: {form}"))?;
        let keys: Vec<_> = keys.split('+').map(|key| key.trim().to_owned()).collect();
        if keys.iter().any(|key| !key.contains('.')) {
            return Err(format!("--grid {text}: a key is section.key; {form}"));
        }
        let mut places = Vec::new();
        for place in parts(values, ',') {
            let all = if keys.len() == 1 { vec![place.clone()] } else { parts(&place, ':') };
            if all.len() != keys.len() || all.iter().any(String::is_empty) {
                let (wanted, found) = (keys.len(), all.len());
                return Err(format!("--grid {text}: `{place}` has {found} values, not {wanted}"));
            }
            places.push(all);
        }
        Ok(Self { keys, values: places })
    }

    /// How many places it has.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has none; an axis that was parsed has one.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn sets(&self, place: usize) -> impl Iterator<Item = String> {
        self.keys.iter().zip(&self.values[place]).map(|(key, value)| format!("{key}={value}"))
    }
}

/// Every combination of places, the last axis fastest: the settings of each. Refuses more than
/// `most`.
pub fn expand(axes: &[Axis], most: usize) -> Result<Vec<Vec<String>>, String> {
    let count = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.len()));
    let count = count.filter(|count| *count <= most).ok_or_else(|| {
        let sizes: Vec<_> = axes.iter().map(|axis| axis.len().to_string()).collect();
        format!("the grid has {} points, more than {most}; give it fewer values", sizes.join(" x "))
    })?;
    let mut points = Vec::with_capacity(count);
    for number in 0..count {
        let (mut rest, mut places) = (number, Vec::new());
        for axis in axes.iter().rev() {
            places.push(rest % axis.len());
            rest /= axis.len();
        }
        places.reverse();
        points.push(axes.iter().zip(places).flat_map(|(axis, place)| axis.sets(place)).collect());
    }
    Ok(points)
}

/// `text` divided at `separator`, where that stands outside of brackets, braces and quotes.
fn parts(text: &str, separator: char) -> Vec<String> {
    let (mut all, mut depth, mut quote) = (vec![String::new()], 0i32, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, _) if c == separator && depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = all.last_mut() {
            last.push(c);
        }
    }
    all.into_iter().map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(axes: &[&str]) -> Vec<String> {
        let axes: Vec<_> = axes.iter().map(|text| Axis::parse(text).unwrap()).collect();
        expand(&axes, 100).unwrap().iter().map(|sets| sets.join(" ")).collect()
    }

    #[test]
    fn a_grid_is_every_combination() {
        let all = points(&["a.b=1,2", "c.d=x, y"]);
        assert_eq!(all, ["a.b=1 c.d=x", "a.b=1 c.d=y", "a.b=2 c.d=x", "a.b=2 c.d=y"]);
        assert_eq!(points(&[]), [""]);
        assert_eq!(points(&["a.b+c.d=1:2,3:4"]), ["a.b=1 c.d=2", "a.b=3 c.d=4"]);
    }

    #[test]
    fn brackets_and_quotes_keep_values_together() {
        let all = points(&["optim.betas=[0.9,0.99],[0.8,0.9]"]);
        assert_eq!(all, ["optim.betas=[0.9,0.99]", "optim.betas=[0.8,0.9]"]);
        let all = points(&["clusters.1.attack={kind=\"a:b,c\"},{kind=\"x\", strength=2}"]);
        assert_eq!(all.len(), 2);
        let all = points(&["a.b+c.d=[1:2]:3"]);
        assert_eq!(all, ["a.b=[1:2] c.d=3"]);
    }

    #[test]
    fn what_is_no_axis_is_refused() {
        for text in ["a.b", "ab=1", "a.b+cd=1:2", "a.b+c.d=1", "a.b+c.d=1:2:3", "a.b=1,,2", "a.b="]
        {
            let error = Axis::parse(text).unwrap_err();
            assert!(error.starts_with(&format!("--grid {text}: ")), "{error}");
        }
        let axis = Axis::parse("a.b=1,2,3,4,5,6,7,8,9,10").unwrap();
        let error = expand(&vec![axis; 40], 1000).unwrap_err();
        assert!(error.contains("10 x 10") && error.contains("1000"), "{error}");
    }
}
