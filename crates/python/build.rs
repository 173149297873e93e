//! Lets the sources ask for the Python version, as in `#[cfg(Py_3_10)]`.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
