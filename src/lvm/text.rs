//! The syntax of LVM's metadata, which is that of its configuration files: sections in braces, `key = value`, and as values
//! numbers, strings in quotes and arrays of these. What is not understood is an error; nothing is guessed.

/// Sections within sections.
const DEPTH_MAX: u32 = 8;

/// A section: what it has, in its order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Section(Vec<(String, Item)>);

/// What a section has.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Section(Section),
    Values(Vec<Value>),
}

/// A number or a string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A number. Fractions, which nothing here is made of, are 0.
    Number(i64),
    /// A string.
    Text(String),
}

impl Section {
    /// The section of a whole text.
    pub fn parse(text: &[u8]) -> Option<Section> {
        let mut reader = Reader { rest: text };
        let section = reader.section(DEPTH_MAX)?;
        // A closing brace too many ends the section, not the text.
        reader.rest.is_empty().then_some(section)
    }

    fn item(&self, key: &str) -> Option<&Item> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, item)| item)
    }

    /// The section of this name.
    pub fn section(&self, key: &str) -> Option<&Section> {
        match self.item(key)? {
            Item::Section(section) => Some(section),
            Item::Values(_) => None,
        }
    }

    /// All sections in it.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.0.iter().filter_map(|(name, item)| match item {
            Item::Section(section) => Some((name.as_str(), section)),
            Item::Values(_) => None,
        })
    }

    /// The values of a key: of an array, or one.
    pub fn values(&self, key: &str) -> Option<&[Value]> {
        match self.item(key)? {
            Item::Values(values) => Some(values),
            Item::Section(_) => None,
        }
    }

    /// A number that is not negative.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.values(key)? {
            [Value::Number(number)] => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A string.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.values(key)? {
            [Value::Text(text)] => Some(text),
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    /// The next byte that means something; 0 at the end, which a text may also have behind its last line.
    fn next(&mut self) -> u8 {
        loop {
            match self.rest {
                [b'#', ..] => {
                    let end = self.rest.iter().position(|&byte| byte == b'\n');
                    self.rest = &self.rest[end.unwrap_or(self.rest.len())..];
                }
                [byte, rest @ ..] if byte.is_ascii_whitespace() => self.rest = rest,
                [0, ..] => self.rest = &[],
                [byte, ..] => return *byte,
                [] => return 0,
            }
        }
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next() == wanted).then(|| self.rest = &self.rest[1..])
    }

    /// Up to its closing brace, which is left, or the end.
    fn section(&mut self, depth: u32) -> Option<Section> {
        let mut section = Section::default();
        while !matches!(self.next(), 0 | b'}') {
            let key = self.word()?;
            let item = match self.next() {
                b'{' => {
                    self.take(b'{')?;
                    let inner = self.section(depth.checked_sub(1)?)?;
                    self.take(b'}')?;
                    Item::Section(inner)
                }
                _ => {
                    self.take(b'=')?;
                    Item::Values(self.values()?)
                }
            };
            section.0.push((key, item));
        }
        Some(section)
    }

    fn values(&mut self) -> Option<Vec<Value>> {
        if self.next() != b'[' {
            return Some(vec![self.value()?]);
        }
        self.take(b'[')?;
        let mut values = Vec::new();
        while self.next() != b']' {
            values.push(self.value()?);
            if self.next() != b']' {
                self.take(b',')?;
            }
        }
        self.take(b']')?;
        Some(values)
    }

    fn value(&mut self) -> Option<Value> {
        if self.next() == b'"' {
            return self.string().map(Value::Text);
        }
        let word = self.word()?;
        match word.parse() {
            Ok(number) => Some(Value::Number(number)),
            Err(_) => word.parse::<f64>().is_ok().then_some(Value::Number(0)),
        }
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut text = Vec::new();
        loop {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return String::from_utf8(text).ok(),
                b'\\' => {
                    let (escaped, rest) = rest.split_first()?;
                    text.push(*escaped);
                    self.rest = rest;
                }
                byte => text.push(*byte),
            }
        }
    }

    fn word(&mut self) -> Option<String> {
        self.next();
        let ends = |byte: &u8| {
            byte.is_ascii_whitespace()
                || matches!(
                    byte,
                    0 | b'{' | b'}' | b'[' | b']' | b'=' | b',' | b'"' | b'#'
                )
        };
        let len = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(len);
        self.rest = rest;
        (len > 0).then(|| String::from_utf8(word.to_vec()).ok())?
    }
}
