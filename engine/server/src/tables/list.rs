//! Lists in the names of tables: items between braces.

use super::{Spec, TableError};

/// The items between braces, separated by commas or blanks; an item in braces of its own may hold them.
pub(super) fn items(spec: &Spec<'_>) -> Result<Vec<String>, TableError> {
    let items = bracketed(spec)?;
    let bare = |item: &str| {
        let bare = item.strip_prefix('{').and_then(|item| item.strip_suffix('}'));
        bare.map_or(item, str::trim).to_owned()
    };
    Ok(items.into_iter().map(bare).collect())
}

/// The same with the braces of items.
pub(super) fn bracketed<'s>(spec: &Spec<'s>) -> Result<Vec<&'s str>, TableError> {
    let list = spec.name.trim();
    let Some(inner) = list.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
        let remedy = format!("write {}:{{ one, two }}", spec.kind);
        return Err(spec.error("its list is not in braces", &remedy));
    };
    let unmatched = std::iter::once(list)
        .chain(split_items(inner).filter(|item| item.starts_with('{')))
        .find(|text| !is_one_pair(text));
    if let Some(text) = unmatched {
        let remedy = "end each item with the brace that matches its first one";
        return Err(spec.error(format!("the braces of {text:?} do not match"), remedy));
    }
    let items: Vec<&str> = split_items(inner).collect();
    if items.is_empty() {
        return Err(spec.error("its list is empty", "put something between the braces"));
    }
    Ok(items)
}

/// Whether the brace that matches the first one is the last letter, and no other.
fn is_one_pair(text: &str) -> bool {
    let mut depth = 0_u32;
    let end = text.find(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    end.is_some_and(|end| end + 1 == text.len())
}

/// The items of a list: commas and blanks separate them, but not between braces.
pub(crate) fn split_items(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |letter: char| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (letter == ',' || letter.is_ascii_whitespace())
    })
    .filter(|item| !item.is_empty())
}
