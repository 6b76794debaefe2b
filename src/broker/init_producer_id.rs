//! InitProducerId v0–v5 (KIP-98; KIP-360 from v3). Omitted: two-phase commit (v6).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::dispatch::Call;

pub(super) fn handle(call: &Call, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let result = init(call, request);
    call.shared.wake();
    match result {
        Ok((producer_id, epoch)) => {
            InitProducerIdResponse::default().with_producer_id(ProducerId(producer_id)).with_producer_epoch(epoch)
        }
        Err(error) => {
            // Clients before v4 do not know PRODUCER_FENCED.
            let old = call.version < 4 && error == ResponseError::ProducerFenced;
            let error = if old { ResponseError::InvalidProducerEpoch } else { error };
            InitProducerIdResponse::default()
                .with_error_code(error.code())
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        }
    }
}

fn init(call: &Call, request: &InitProducerIdRequest) -> Result<(i64, i16), ResponseError> {
    let mut state = call.shared.lock();
    let named = (request.producer_id.0, request.producer_epoch);
    let expected = if call.version >= 3 && named != (-1, -1) { Some(named) } else { None };
    if expected.is_some_and(|(id, epoch)| id < 0 || epoch < 0) {
        return Err(ResponseError::InvalidRequest);
    }
    let Some(id) = &request.transactional_id else {
        return Ok((state.fresh_producer_id(), 0));
    };
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    if state.coordinator(id) != Some(call.node) {
        return Err(ResponseError::NotCoordinator);
    }
    let timeout_ms = request.transaction_timeout_ms;
    if timeout_ms <= 0 || i64::from(timeout_ms) > state.broker_config_number("transaction.max.timeout.ms") {
        return Err(ResponseError::InvalidTransactionTimeout);
    }
    state.init_txn(id, timeout_ms, expected, call.shared.options.txn_marker_delay)
}
