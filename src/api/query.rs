//! Parses the queries of the public operations.
//!
//! Source: the publisher's definitions of the operations, which bound the parameters and say which may be empty.

mod count;
mod list;
mod list_image_jobs;
mod scope;
mod values;
mod wait;

use std::borrow::Cow;

pub use self::count::count;
pub use self::list::{ListQuery, list};
pub use self::list_image_jobs::{JobListQuery, list_image_jobs};
pub use self::scope::{scope_action, summary};
pub use self::wait::WaitQuery;
use crate::web::decode;
use crate::web::error::Error;

/// The decoded values of the parameters with these names. A repeated one is refused, and one of another name is ignored.
fn parameters<'q, const N: usize>(
    names: [&'static str; N],
    query: &'q str,
) -> Result<[Option<Cow<'q, str>>; N], Error> {
    let known = |name: &str| names.iter().position(|known| *known == name);
    // Fast path: most queries have nothing to decode, which one look at the whole tells.
    let is_encoded = decode::is_encoded(query);
    let decode = |text: &'q str| if is_encoded { decode::query(text) } else { Ok(Cow::Borrowed(text)) };
    let mut values = [const { None }; N];
    for (name, value) in decode::pairs(query) {
        // Fast path: names are rarely encoded. A name that cannot be decoded is unknown.
        let which = known(name).or_else(|| decode(name).ok().and_then(|name| known(&name)));
        let Some(which) = which else { continue };
        let value = decode(value).map_err(|error| Error::input(names[which], error.to_string()))?;
        if values[which].replace(value).is_some() {
            return Err(Error::input(names[which], "must be given only once"));
        }
    }
    Ok(values)
}
