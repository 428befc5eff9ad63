//! Texts with places for columns, as far as a recipe alone tells.

/// What is wrong with the braces of a template.
pub(super) fn template_fault(template: &str) -> Option<&'static str> {
    let text = template.replace("{{", "").replace("}}", "");
    let mut rest = text.as_str();
    while let Some(brace) = rest.find(['{', '}']) {
        if rest[brace..].starts_with('}') {
            return Some("a `}` closes nothing");
        }
        let Some((name, after)) = rest[brace + 1..].split_once('}') else {
            return Some("a `{` is never closed");
        };
        if name.contains('{') {
            return Some("a `{` is never closed");
        }
        if name.trim().is_empty() {
            return Some("`{}` names no column");
        }
        rest = after;
    }
    None
}
