//! Places in a recipe, in words.

/// Where in the recipe a value stands, as messages name it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    Key(String),
    Item(usize),
}

impl Place {
    /// The place of a dotted path; the empty one is the whole recipe.
    pub(crate) fn new(path: &str) -> Self {
        let keys = path.split('.').filter(|key| !key.is_empty());
        Self { parts: keys.map(|key| Part::Key(key.to_string())).collect() }
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Part::Key(key.to_string()))
    }

    pub(super) fn item(&self, index: usize) -> Self {
        self.with(Part::Item(index))
    }

    fn with(&self, part: Part) -> Self {
        let mut parts = self.parts.clone();
        parts.push(part);
        Self { parts }
    }

    /// `` `epochs` ``, or ``item 2 of `freeze` ``.
    pub(super) fn name(&self) -> String {
        let key = self.parts.iter().rev().find_map(|part| match part {
            Part::Key(key) => Some(key.as_str()),
            Part::Item(_) => None,
        });
        let key = key.map_or("the recipe".to_string(), |key| format!("`{key}`"));
        match self.parts.last() {
            Some(Part::Item(index)) => format!("item {} of {key}", index + 1),
            _ => key,
        }
    }

    /// `` `[tokenizer.train]` ``, or `the recipe`.
    pub(super) fn table(&self) -> String {
        if self.parts.is_empty() {
            return "the recipe".to_string();
        }
        let parts: Vec<String> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Key(key) => key.clone(),
                Part::Item(index) => index.to_string(),
            })
            .collect();
        format!("`[{}]`", parts.join("."))
    }

    /// Whether this place is that table (`data`, `distill.losses`; none = the recipe itself) or lies in it.
    pub(super) fn is_in(&self, table: Option<&str>) -> bool {
        let keys = self.parts.iter().filter_map(|part| match part {
            Part::Key(key) => Some(key.as_str()),
            Part::Item(_) => None,
        });
        match table {
            Some(table) => table.split('.').eq(keys.take(table.split('.').count())),
            None => self.parts.is_empty(),
        }
    }
}
