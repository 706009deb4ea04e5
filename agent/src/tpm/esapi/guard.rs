//! Holds a session or transient object and flushes it on every path out, errors included.

use core::ops::{Deref, DerefMut};

use tss_esapi::Context;
use tss_esapi::handles::ObjectHandle;

/// A context in which one handle is loaded for as long as this value lives. Guards nest by
/// borrowing from each other.
pub(super) struct Flush<'c> {
    context: &'c mut Context,
    handle: ObjectHandle,
}

impl<'c> Flush<'c> {
    pub(super) fn new(context: &'c mut Context, handle: ObjectHandle) -> Self {
        Self { context, handle }
    }

    pub(super) fn handle(&self) -> ObjectHandle {
        self.handle
    }
}

impl Deref for Flush<'_> {
    type Target = Context;

    fn deref(&self) -> &Context {
        self.context
    }
}

impl DerefMut for Flush<'_> {
    fn deref_mut(&mut self) -> &mut Context {
        self.context
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        // Fails only when the TPM is gone, and then the handle is too. Otherwise the context still
        // knows the handle and tries again when it is dropped.
        if let Err(error) = self.context.flush_context(self.handle) {
            log::debug!("flushing a handle: {error}");
        }
    }
}

/// Like [`Flush`], for a handle of something that stays in the TPM (an NV index): frees what the
/// library holds about it.
pub(super) struct Close<'c> {
    context: &'c mut Context,
    handle: ObjectHandle,
}

impl<'c> Close<'c> {
    pub(super) fn new(context: &'c mut Context, handle: ObjectHandle) -> Self {
        Self { context, handle }
    }
}

impl Deref for Close<'_> {
    type Target = Context;

    fn deref(&self) -> &Context {
        self.context
    }
}

impl DerefMut for Close<'_> {
    fn deref_mut(&mut self) -> &mut Context {
        self.context
    }
}

impl Drop for Close<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.context.tr_close(&mut self.handle) {
            log::debug!("closing a handle: {error}");
        }
    }
}
