package rest

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// What the document says of routes that are not as the usual ones.

// add adds a parameter.
func (op operation) add(name, in, text string, schema object) {
	list, _ := op["parameters"].([]any)
	op["parameters"] = append(list, object{"name": name, "in": in, "description": text, "schema": schema})
}

// responses are the answers by their status.
func (op operation) responses() object { return op["responses"].(object) }

// answers changes the answer that is no error.
func (op operation) answers(media string, schema object, text string) {
	op.responses()["200"] = object{"description": text, "content": content(media, schema)}
}

// of is the schema of a kind of message.
func (d *documenter) of(m proto.Message) object { return d.message(m.ProtoReflect().Descriptor()) }

func header(text string) object {
	return object{"description": text, "schema": object{"type": "string"}}
}

// newJob is the schema of a job that is submitted.
func (d *documenter) newJob() object {
	return d.object((*navvyv1.Job)(nil).ProtoReflect().Descriptor(), func(f protoreflect.FieldDescriptor) bool {
		return !slices.Contains(givenFields, string(f.Name()))
	})
}

func submitDoc(d *documenter, op operation) {
	op["summary"] = "Submit a job and its inputs."
	op["description"] = "The job is detached: it goes on without the client. It is durable when the answer comes. " +
		"With " + typeJSON + " the inputs are a field of the job. In any number they come line by line: the first line is the job, " +
		"each further one an input, in JSON with " + typeNDJSON + " and as it is with " + typeLines + ". " +
		"Unless stream is set, nothing is kept of a submission that breaks off."
	op.add(startParam, "query", "Tasks may start before the last input has come. If the body then breaks off, the job is held, with what was accepted.", object{"type": "boolean"})
	op.add(keyHeader, "header", "A repeated submission under this key returns the first job.", object{"type": "string"})
	job := d.newJob()
	job["properties"].(object)[inputsField] = object{"type": "array", "description": "One for each task.", "items": ref("Bytes")}
	job["required"] = []any{"spec", inputsField}
	d.schemas["NewJob"] = job
	op["requestBody"] = object{"required": true, "content": object{
		typeJSON:   object{"schema": ref("NewJob")},
		typeNDJSON: object{"schema": object{"type": "string", "description": "Lines: a Job, then one Bytes for each task."}},
		typeLines:  object{"schema": object{"type": "string", "description": "Lines: a Job, then one input for each task, as it is."}},
	}}
	accepted := d.of(&navvyv1.Accepted{})
	both := object{typeJSON: object{"schema": accepted}, typeNDJSON: object{"schema": d.told(accepted)}}
	op.responses()["200"] = object{"description": "The idempotency key was known: the first job.", "content": both}
	op.responses()["201"] = object{
		"description": "The job is durable. To who streams inputs and accepts " + typeNDJSON + " lines come from the first durable input on: " +
			"this one, then how many inputs are durable, last the job.",
		"content": both,
		"headers": object{"Location": header("The job's path.")},
	}
}

// told is the schema of the lines that tell of a submission.
func (d *documenter) told(accepted object) object {
	return object{"oneOf": []any{
		accepted,
		object{
			"type": "object", "required": []any{durableField}, "additionalProperties": false,
			"properties": object{durableField: object{"type": "integer", "format": "int64", "description": "So many inputs are durable."}},
		},
		d.of(&navvyv1.JobStatus{}), ref("Error"),
	}}
}

func callsDoc(d *documenter, op operation) {
	op["summary"] = "Run any number of tasks over one connection, and get each one's answer when it is there."
	op["description"] = "Lines go in both directions at once. A line is a job for the calls that follow, or a call: a job of one task. " +
		"Each has an answer, in any order, with the number that the call has; with notify also a line when it is durable. " +
		"The answer ends when the lines have ended and all calls are answered. Jobs go on when the client leaves; " +
		"a call that is repeated under its idempotency key is answered by the first job."
	job := d.newJob()
	job["required"] = []any{"spec"}
	d.schemas["CallJob"] = job
	d.schemas["Call"] = object{
		"description": "A line of calls.",
		"oneOf": []any{
			object{
				"type": "object", "required": []any{"job"}, "additionalProperties": false,
				"properties": object{"job": described(ref("CallJob"), "The job of the calls that follow.")},
			},
			object{
				"type": "object", "required": []any{"number"}, "additionalProperties": false,
				"properties": object{
					"number":          object{"type": "integer", "minimum": 0, "description": "Names the call in its answers; the client's choice."},
					"input":           described(ref("Bytes"), "The task's input."),
					"notify":          object{"type": "boolean", "description": "Tell also when the job is durable."},
					"idempotency_key": object{"type": "string", "description": "A repeated call under this key is answered by the first job."},
				},
			},
		},
	}
	op["requestBody"] = object{"required": true, "content": content(typeNDJSON, ref("Call"))}
	op.answers(typeNDJSON, d.callAnswer(), "One answer a line.")
}

// callAnswer is the schema of the answer of a call.
func (d *documenter) callAnswer() object {
	fail := errorSchema()["properties"].(object)["error"].(object)
	return object{
		"type": "object", "additionalProperties": false,
		"properties": object{
			"number":   object{"type": "integer", "minimum": 0, "description": "The call's; not there in an error that ends all of them."},
			"id":       object{"type": "string", "description": "The job's id."},
			"accepted": object{"type": "boolean", "description": "The job is durable; an answer is to come."},
			"result":   described(d.of(&navvyv1.Result{}), "The task's answer, also of one that has failed."),
			"status":   described(d.of(&navvyv1.Status{}), "There is no answer: the job was stopped, or is held."),
			"error":    described(fail, "There is no job."),
		},
	}
}

func runDoc(d *documenter, op operation) {
	op["summary"] = "Run one task, and wait for its answer."
	op["description"] = "A job of one task, which is durable before it starts. It goes on when the client leaves; calling again under its idempotency key gives its answer."
	op.add(keyHeader, "header", "A repeated call under this key is answered by the first job.", object{"type": "string"})
	job := d.newJob()
	job["properties"].(object)[inputField] = object{"description": "The task's input.", "allOf": []any{ref("Bytes")}}
	job["required"] = []any{"spec"}
	d.schemas["NewTask"] = job
	op["requestBody"] = object{"required": true, "content": content(typeJSON, ref("NewTask"))}
	op.answers(typeJSON, d.of(&navvyv1.Result{}), "The task's answer, also of one that has failed.")
	op.responses()["200"].(object)["headers"] = object{"Location": header("The job's path.")}
}

func resumeDoc(d *documenter, op operation) {
	op["summary"], op["description"] = "Resume frees a held job.", "Resume frees a held job."
	op.answers(typeJSON, d.of(&navvyv1.Status{}), "Where the job stands.")
}

func resultsDoc(d *documenter, op operation) {
	op.answers(typeNDJSON, d.of(&navvyv1.Result{}), "One result a line.")
}

func outputDoc(_ *documenter, op operation) {
	op["description"] = "The bytes that an attempt wrote, from its first. With follow, those of an attempt that takes over come behind them, until the task has its answer."
	op["summary"] = "What a task wrote."
	op.add(streamParam, "query", "Of standard output, of standard error, or of both in the order in which they came; or the value of a call of a function.", object{"type": "string", "enum": []any{"stdout", "stderr", "both", "value"}, "default": "both"})
	op.answers(typeBytes, object{"type": "string", "format": "binary"}, "The bytes.")
}

func workerDoc(d *documenter, op operation) {
	op["summary"], op["description"] = "One worker.", "One worker, as in the list of all."
	op["parameters"] = []any{object{"name": "name", "in": "path", "required": true, "description": "Its name.", "schema": object{"type": "string"}}}
	op.answers(typeJSON, d.of(&navvyv1.FleetWorker{}), "The worker.")
}

// etagHeader describes the version of a value.
func etagHeader() object {
	return object{"ETag": header("The value's version in quotes, for If-Match.")}
}

func getValueDoc(_ *documenter, op operation) {
	op["description"] = "The value's bytes. A key may have slashes; where it has two in a row, or dots between them, they are percent-encoded."
	op.add("If-None-Match", "header", "Not if it has this ETag: 304.", object{"type": "string"})
	op.answers(typeBytes, object{"type": "string", "format": "binary"}, "The bytes.")
	op.responses()["200"].(object)["headers"] = etagHeader()
	op.responses()["304"] = object{"description": "It has the ETag of If-None-Match."}
}

func putValueDoc(d *documenter, op operation) {
	op["description"] = "Put writes a value: the bytes of the body. precondition_failed if a condition does not hold, exhausted if the owner has as much as it may have."
	op.add("If-None-Match", "header", "*: only if there is no value.", object{"type": "string", "enum": []any{"*"}})
	op["requestBody"] = object{"required": true, "content": content("*/*", object{"type": "string", "format": "binary"})}
	ifMatchDoc(d, op)
	op.responses()["200"].(object)["headers"] = etagHeader()
}

func ifMatchDoc(_ *documenter, op operation) {
	op.add("If-Match", "header", "Only if the value has this ETag.", object{"type": "string"})
}

const fileKeys = " A name may have slashes; what is not plain in it is percent-encoded."

// fileHeadersDoc describes what comes with a file.
func fileHeadersDoc() object {
	return object{
		"ETag":       header("The file's SHA-256 in hexadecimal digits, in quotes, if it is known."),
		digestHeader: header("The same as RFC 9530 has it: sha-256=:…: with it in base 64."),
	}
}

func listFilesDoc(d *documenter, op operation) {
	op.answers(typeNDJSON, d.of(&navvyv1.File{}), "One file a line, without its checksum.")
}

func getFileDoc(_ *documenter, op operation) {
	op["description"] = "The file's bytes, which are checked while they come: if they are not what was put, the answer ends early. " +
		"Range and conditions are those of RFC 9110; a part is not checked." + fileKeys
	op.add("Range", "header", "Only these bytes: 206.", object{"type": "string"})
	op.add("If-Match", "header", "Only if it has this ETag: 412 otherwise.", object{"type": "string"})
	op.add("If-None-Match", "header", "Not if it has this ETag: 304.", object{"type": "string"})
	op.add("If-Range", "header", "All of it if it does not have this ETag.", object{"type": "string"})
	bytes := object{"type": "string", "format": "binary"}
	op.answers(typeBytes, bytes, "The bytes.")
	op.responses()["200"].(object)["headers"] = fileHeadersDoc()
	op.responses()["206"] = object{"description": "The bytes that Range asked for.", "content": content("*/*", bytes), "headers": fileHeadersDoc()}
	op.responses()["304"] = object{"description": "It has the ETag of If-None-Match."}
}

func statFileDoc(_ *documenter, op operation) {
	op["description"] = "What is known of a file, without its bytes." + fileKeys
	op.add("If-Match", "header", "Only if it has this ETag: 412 otherwise.", object{"type": "string"})
	op.add("If-None-Match", "header", "Not if it has this ETag: 304.", object{"type": "string"})
	op.responses()["200"] = object{"description": "There is such a file.", "headers": fileHeadersDoc()}
	op.responses()["304"] = object{"description": "It has the ETag of If-None-Match."}
}

func putFileDoc(_ *documenter, op operation) {
	op["description"] = "Put writes a file, in the place of one that is there: the bytes of the body, of any length. It appears when all of them have come, and not at all otherwise. " +
		"precondition_failed if If-None-Match does not hold, conflict if a folder has the name, or a file that of a folder above it, exhausted if there is no room for it, invalid with another condition." + fileKeys
	op.add("owner", "query", "Whose; the caller's own if empty.", object{"type": "string"})
	op.add("If-None-Match", "header", "*: only if there is no file.", object{"type": "string", "enum": []any{"*"}})
	op.add(digestHeader, "header", "What it must hold: sha-256=:…: with the SHA-256 in base 64, as in RFC 9530.", object{"type": "string"})
	op["requestBody"] = object{"required": true, "content": content("*/*", object{"type": "string", "format": "binary"})}
	op.responses()["200"].(object)["headers"] = fileHeadersDoc()
}

func removeFileDoc(_ *documenter, op operation) {
	op["description"] = "Remove takes a file away; not_found if there is none, invalid with a condition, such as If-Match, and then the file stays." + fileKeys
}
