//! What a component answers, besides the payload.

use super::layout::codes;

codes! {
    /// How a command ended.
    ///
    /// Table 8-46. Compared with libcxlmi (all), and with opencis-core and QEMU (as far as 1Eh).
    ReturnCode: u16 {
        /// It was done.
        0x00 Success,
        /// It was begun; Background Operation Status tells of it.
        0x01 BackgroundCommandStarted,
        /// An input is not valid.
        0x02 InvalidInput,
        /// There is no such command here.
        0x03 Unsupported,
        /// The component failed.
        0x04 InternalError,
        /// It failed for now; to be sent once more.
        0x05 RetryRequired,
        /// A background operation is still under way.
        0x06 Busy,
        /// The media cannot be accessed.
        0x07 MediaDisabled,
        /// Another firmware package is being transferred.
        0x08 FwTransferInProgress,
        /// The parts of a firmware package came out of order.
        0x09 FwTransferOutOfOrder,
        /// The firmware package is not authentic.
        0x0A FwVerificationFailed,
        /// The firmware slot cannot be used so.
        0x0B InvalidSlot,
        /// The new firmware failed, and the one before it runs.
        0x0C ActivationFailedFwRolledBack,
        /// The new firmware failed, and a cold reset is needed.
        0x0D ActivationFailedColdResetRequired,
        /// An event record handle is not valid.
        0x0E InvalidHandle,
        /// A physical address is not valid.
        0x0F InvalidPhysicalAddress,
        /// No more poison may be injected.
        0x10 InjectPoisonLimitReached,
        /// The media cannot be repaired.
        0x11 PermanentMediaFailure,
        /// The background operation was aborted.
        0x12 Aborted,
        /// It may not be done in this security state.
        0x13 InvalidSecurityState,
        /// It is not the passphrase that was set.
        0x14 IncorrectPassphrase,
        /// It may not be sent to this mailbox or this command interface.
        0x15 UnsupportedMailboxOrCci,
        /// The payload is longer or shorter than the command's, or longer than the component takes.
        0x16 InvalidPayloadLength,
        /// There is no such log.
        0x17 InvalidLog,
        /// Something else that happened stopped it.
        0x18 Interrupted,
        /// There is no such version of the feature.
        0x19 UnsupportedFeatureVersion,
        /// There is no such selection of the feature.
        0x1A UnsupportedFeatureSelectionValue,
        /// Another part of the feature's data is being transferred.
        0x1B FeatureTransferInProgress,
        /// The parts of the feature's data came out of order.
        0x1C FeatureTransferOutOfOrder,
        /// Something that is needed is used up.
        0x1D ResourcesExhausted,
        /// The extent list names what it may not.
        0x1E InvalidExtentList,
        /// The parts of the inputs came out of order.
        0x1F TransferOutOfOrder,
        /// The background operation cannot be aborted.
        0x20 RequestAbortBackgroundOperationNotSupported,
    }
}
