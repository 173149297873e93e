/// What a ciphertext belongs to, its additional authenticated data: an entry that is moved to another
/// key or tenant, or whose header is changed in one of these, does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// The cache key, without the tenant's prefix; never empty.
    pub key: &'a str,
    /// The header's `format`.
    pub format: &'a str,
    /// The header's `compressed`.
    pub compressed: bool,
    /// The header's `original_type`; an empty one counts as none.
    pub original_type: Option<&'a str>,
}

/// The version of the layout.
const VERSION: u8 = 3;

impl Binding<'_> {
    /// Appends the bytes that are authenticated: the version 3, then each component after its length
    /// (32 bits, big-endian).
    ///
    /// # Panics
    /// If the key is empty, which would let entries without a key be exchanged, or if a component has
    /// 4 GiB or more.
    pub fn write(&self, out: &mut Vec<u8>) {
        assert!(!self.key.is_empty(), "an entry is bound to its key");
        let flag = if self.compressed { "True" } else { "False" };
        let original = self.original_type.filter(|name| !name.is_empty());
        out.push(VERSION);
        for component in [self.tenant, self.key, self.format, flag]
            .into_iter()
            .chain(original)
        {
            let len = u32::try_from(component.len()).expect("names and keys are below 4 GiB");
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(component.as_bytes());
        }
    }
}
