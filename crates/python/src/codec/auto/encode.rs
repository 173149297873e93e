use cachekit_wire::msgpack;
use pyo3::{
    intern,
    prelude::*,
    types::{PyBytes, PyComplex, PyDelta, PyDeltaAccess, PyFrozenSet, PySet},
};

use super::{
    super::{
        classes,
        encode::{Mode, bound},
        refusal::{Refusal, Refused, index_step},
        remedies, sentinel,
    },
    Auto, FROZEN, Kind, NDARRAY, SET, TUPLE, UUID, VALUE, arrays, tables,
};

impl Mode for Auto {
    #[cold]
    fn big_int(&self, object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Refused<()> {
        let raised = |error| Refusal::raised(object, "to_bytes()", error);
        let py = object.py();
        let bits: usize = object
            .call_method0(intern!(py, "bit_length"))
            .and_then(|bits| bits.extract())
            .map_err(raised)?;
        let kwargs = pyo3::types::PyDict::new(py);
        let bytes = kwargs
            .set_item(intern!(py, "signed"), true)
            .and_then(|()| {
                let size = (bits / 8 + 1, intern!(py, "big"));
                object.call_method(intern!(py, "to_bytes"), size, Some(&kwargs))
            })
            .and_then(|bytes| Ok(bytes.cast_into::<PyBytes>()?))
            .map_err(raised)?;
        Kind::BigInt.write(out);
        msgpack::write_bin(out, bytes.as_bytes());
        Ok(())
    }

    #[inline(always)]
    fn tuple_head(out: &mut Vec<u8>) {
        marked(out, 2, TUPLE);
    }

    fn key(&self, key: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
        bound(self, key, out, depth)
    }

    #[inline(always)]
    fn is_mark(encoded: &[u8]) -> bool {
        let Some((&header, text)) = encoded.split_first() else {
            return false;
        };
        let own = match header {
            0xa7 => SET,
            0xa8 => UUID,
            0xa9 => TUPLE,
            0xab => NDARRAY,
            0xac => return sentinel::named(encoded).is_some(),
            _ => return false,
        };
        text == own.as_bytes() || sentinel::named(encoded).is_some()
    }

    #[inline(never)]
    fn other(&self, object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
        let py = object.py();
        if let Ok(set) = object.cast_exact::<PySet>() {
            return self.set(set.as_any(), set.len(), false, out, depth);
        }
        if let Ok(set) = object.cast_exact::<PyFrozenSet>() {
            return self.set(set.as_any(), set.len(), true, out, depth);
        }
        if let Ok(number) = object.cast_exact::<PyComplex>() {
            use pyo3::types::PyComplexMethods;
            Kind::Complex.write(out);
            msgpack::write_array_header(out, 2);
            msgpack::write_f64(out, number.real());
            msgpack::write_f64(out, number.imag());
            return Ok(());
        }
        if let Ok(delta) = object.cast_exact::<PyDelta>() {
            Kind::Delta.write(out);
            msgpack::write_array_header(out, 3);
            for part in [
                delta.get_days(),
                delta.get_seconds(),
                delta.get_microseconds(),
            ] {
                msgpack::write_i64(out, i64::from(part));
            }
            return Ok(());
        }
        if let Some(done) = self.registered.encode(self, object, out, depth) {
            return done;
        }
        let class = object.get_type();
        let is = |module: &str, name: &str| {
            classes::is_exactly(&class, module, name)
                .map_err(|error| Refusal::raised(object, "class", error))
        };
        let text = || {
            object
                .str()
                .and_then(|text| text.extract::<String>())
                .map_err(|error| Refusal::raised(object, "str()", error))
        };
        if is("uuid", "UUID")? {
            marked(out, 2, UUID);
            msgpack::write_str(out, &text()?);
            return Ok(());
        }
        if is("decimal", "Decimal")? {
            Kind::Decimal.write(out);
            msgpack::write_str(out, &text()?);
            return Ok(());
        }
        if arrays::is_array(object).map_err(|error| Refusal::raised(object, "class", error))? {
            return arrays::encode(self, object, out, depth);
        }
        if classes::is_sub(&class, "numpy", "generic").unwrap_or(false) {
            return arrays::encode_scalar(object, out);
        }
        for (name, kind) in [("DataFrame", Kind::Frame), ("Series", Kind::Series)] {
            if is("pandas", name)? {
                let ipc = tables(py)
                    .and_then(|tables| tables.call_method1(intern!(py, "nested_to_ipc"), (object,)))
                    .and_then(|ipc| Ok(ipc.cast_into::<PyBytes>()?));
                let ipc = ipc.map_err(|error| Refusal::explained(object, error))?;
                let ipc = ipc.as_bytes();
                if u32::try_from(ipc.len()).is_err() {
                    return Err(Refusal::new(
                        object,
                        "larger than 4 GiB; return it in parts",
                    ));
                }
                kind.write(out);
                msgpack::write_bin(out, ipc);
                return Ok(());
            }
        }
        Err(Refusal::new(object, remedies::auto_value(object)))
    }
}

impl Auto {
    fn set(
        &self,
        set: &Bound<'_, PyAny>,
        len: usize,
        frozen: bool,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Refused<()> {
        let changed = || {
            Refusal::new(
                set,
                "and changed while it was read; return an object that no other thread changes",
            )
        };
        if depth >= msgpack::MAX_DEPTH {
            return Err(Refusal::new(
                set,
                "and nested more than 512 containers deep; return a flatter structure",
            ));
        }
        let len = u32::try_from(len).map_err(|_| changed())?;
        marked(out, 3, SET);
        msgpack::write_array_header(out, len);
        let mut written = 0;
        let items = set.try_iter().map_err(|_| changed())?;
        for item in items {
            let item = item.map_err(|_| changed())?;
            if written == len {
                return Err(changed());
            }
            bound(self, &item, out, depth + 1)
                .map_err(|refusal| refusal.within(index_step(written as usize)))?;
            written += 1;
        }
        if written != len {
            return Err(changed());
        }
        msgpack::write_str(out, FROZEN);
        msgpack::write_bool(out, frozen);
        Ok(())
    }
}

/// Starts a map of `entries` with a mark; its value comes next.
fn marked(out: &mut Vec<u8>, entries: u32, mark: &str) {
    msgpack::write_map_header(out, entries);
    msgpack::write_str(out, mark);
    msgpack::write_bool(out, true);
    msgpack::write_str(out, VALUE);
}
