//! Rows as the guest printed them, and medians with their spread over the rounds.

use serde_json::Value;

/// Median and spread of one figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The middle value, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Figure {
    /// `None` without a value.
    pub fn of(mut values: Vec<f64>) -> Option<Figure> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        };
        Some(Figure { median, min, max })
    }

    /// The same in another unit.
    pub fn times(self, factor: f64) -> Figure {
        Figure {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
        }
    }

    /// `1234 (1200..1300)`.
    pub fn show(self, digits: usize) -> String {
        format!(
            "{:.digits$} ({:.digits$}..{:.digits$})",
            self.median, self.min, self.max
        )
    }
}

/// `-` for a figure that was not measured.
pub fn shown(figure: Option<Figure>, digits: usize) -> String {
    figure.map_or("-".to_owned(), |f| f.show(digits))
}

/// Measurements, one JSON object each.
#[derive(Debug, Clone)]
pub struct Rows<'a>(Vec<&'a Value>);

impl<'a> Rows<'a> {
    /// The member `rows` of a result.
    pub fn of(result: &'a Value) -> Rows<'a> {
        Rows(result["rows"].as_array().into_iter().flatten().collect())
    }

    /// Those whose member `key` is this word.
    pub fn with(&self, key: &str, word: &str) -> Rows<'a> {
        let kept = self
            .0
            .iter()
            .filter(|row| row[key].as_str() == Some(word))
            .copied();
        Rows(kept.collect())
    }

    /// The median of a number over them; `None` where none of them has it.
    pub fn figure(&self, key: &str) -> Option<Figure> {
        Figure::of(self.0.iter().filter_map(|row| row[key].as_f64()).collect())
    }

    /// All numbers in the lists that a member of the rows is.
    pub fn numbers(&self, key: &str) -> Vec<f64> {
        let lists = self.0.iter().filter_map(|row| row[key].as_array());
        lists.flatten().filter_map(Value::as_f64).collect()
    }

    /// The different words of a member, in the order of their first appearance.
    pub fn words(&self, key: &str) -> Vec<&'a str> {
        let mut words = Vec::new();
        for word in self.0.iter().filter_map(|row| row[key].as_str()) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_medians_with_their_spread() {
        let f = Figure::of(vec![5.0, 1.0, 3.0]).expect("values");
        assert_eq!((f.median, f.min, f.max), (3.0, 1.0, 5.0));
        assert_eq!(Figure::of(vec![1.0, 2.0]).expect("values").median, 1.5);
        assert_eq!(Figure::of(Vec::new()), None);
        assert_eq!(f.show(1), "3.0 (1.0..5.0)");
        assert_eq!(f.times(0.5).show(1), "1.5 (0.5..2.5)");
        assert_eq!(shown(None, 1), "-");
    }

    #[test]
    fn rows_are_chosen_by_their_words() {
        let result = json!({"rows": [
            {"row": "a", "stack": "x", "iops": 1.0}, {"row": "a", "stack": "y", "iops": 7.0},
            {"row": "a", "stack": "x", "iops": 3.0, "gaps": [1, 2.5]}, {"row": "b", "stack": "x", "iops": 9.0},
        ]});
        let rows = Rows::of(&result);
        let a = rows.with("row", "a");
        assert_eq!(
            a.with("stack", "x").figure("iops").map(|f| f.median),
            Some(2.0)
        );
        assert_eq!(a.with("stack", "z").figure("iops"), None);
        assert_eq!(a.figure("gap_ms"), None);
        assert_eq!(a.numbers("gaps"), [1.0, 2.5]);
        assert_eq!(rows.words("stack"), ["x", "y"]);
    }
}
