package pgwire

// Error adds an ErrorResponse: e.Raw as it is when it is set, otherwise the fields.
func (w *Writer) Error(e *Error) { w.report(MsgError, e, SeverityError) }

// Notice adds a NoticeResponse. An empty severity is NOTICE.
func (w *Writer) Notice(e *Error) { w.report(MsgNotice, e, SeverityNotice) }

func (w *Writer) report(typ byte, e *Error, unset string) {
	if e.Raw != nil {
		w.Frame(typ, e.Raw)
		return
	}
	severity := e.severity(unset)
	w.Begin(typ)
	w.field('S', severity)
	w.field('V', severity)
	w.field('C', e.Code)
	w.field('M', e.Message)
	if e.Detail != "" {
		w.field('D', e.Detail)
	}
	if e.Hint != "" {
		w.field('H', e.Hint)
	}
	if e.Routine != "" {
		w.field('R', e.Routine)
	}
	w.Byte(0)
	w.End()
}

func (w *Writer) field(kind byte, value string) {
	w.Byte(kind)
	w.String(value)
}

// ReadyForQuery adds the end of a turn; status is 'I' (idle), 'T' (in a transaction) or 'E' (in a failed one).
func (w *Writer) ReadyForQuery(status byte) {
	w.Begin(MsgReadyForQuery)
	w.Byte(status)
	w.End()
}

// CommandComplete adds the end of a statement with its tag, such as "SELECT 1".
func (w *Writer) CommandComplete(tag string) {
	w.Begin(MsgCommandComplete)
	w.String(tag)
	w.End()
}

// ParameterStatus adds the report of a setting.
func (w *Writer) ParameterStatus(name, value string) {
	w.Begin(MsgParameterStatus)
	w.String(name)
	w.String(value)
	w.End()
}

// BackendKeyData adds what a client needs to cancel: 4 key bytes in protocol 3.0, 4 to 256 in 3.2.
func (w *Writer) BackendKeyData(pid uint32, key []byte) {
	w.Begin(MsgBackendKeyData)
	w.Int32(int(pid))
	w.Bytes(key)
	w.End()
}

// AuthenticationOK adds the end of authentication.
func (w *Writer) AuthenticationOK() {
	w.Begin(MsgAuthentication)
	w.Int32(0)
	w.End()
}

// NegotiateProtocolVersion adds the answer to a startup packet that asks for a newer minor version or for
// options we do not know; newest is the whole version (Version32), as PostgreSQL sends it.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP.
func (w *Writer) NegotiateProtocolVersion(newest uint32, unsupported []string) {
	w.Begin(MsgNegotiateProtocolVersion)
	w.Int32(int(newest))
	w.Int32(len(unsupported))
	for _, name := range unsupported {
		w.String(name)
	}
	w.End()
}

// Query adds a simple query.
func (w *Writer) Query(sql string) {
	w.Begin(MsgQuery)
	w.String(sql)
	w.End()
}

// Parse adds a Parse; types is the raw int16 count and the int32 OIDs, as DecodeParse returns them; nil means none.
func (w *Writer) Parse(name, sql string, types []byte) {
	w.Begin(MsgParse)
	w.String(name)
	w.String(sql)
	if len(types) == 0 {
		w.Int16(0)
	}
	w.Bytes(types)
	w.End()
}

// Close adds a Close of a statement (kind 'S') or of a portal (kind 'P').
func (w *Writer) Close(kind byte, name string) {
	w.Begin(MsgClose)
	w.Byte(kind)
	w.String(name)
	w.End()
}

// Sync adds the end of an extended-protocol batch.
func (w *Writer) Sync() { w.Frame(MsgSync, nil) }

// Terminate adds a client's goodbye.
func (w *Writer) Terminate() { w.Frame(MsgTerminate, nil) }

// Startup adds a startup packet.
func (w *Writer) Startup(version uint32, params []Param) {
	w.untyped(int(version))
	for _, p := range params {
		w.String(p.Name)
		w.String(p.Value)
	}
	w.Byte(0)
	w.End()
}

// SSLRequest adds the request for TLS; the server answers with one byte, 'S' or 'N'.
func (w *Writer) SSLRequest() {
	w.untyped(codeSSL)
	w.End()
}

// CancelRequest adds a cancel request, the only packet of a connection of its own.
func (w *Writer) CancelRequest(pid uint32, key []byte) {
	w.untyped(codeCancel)
	w.Int32(int(pid))
	w.Bytes(key)
	w.End()
}

// untyped begins a packet without a type byte.
func (w *Writer) untyped(code int) {
	w.room(8)
	w.open()
	w.Int32(code)
}
