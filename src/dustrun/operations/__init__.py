"""Every operation of the API, declared once: one file a noun, `<noun>.py`.

A declaration has all that an operation is, in one place:

    noun = Noun("Notes")                                    # the tag that the document shows them under

    NoteId = Annotated[str, Named("id"), Field(description="Id of the note.", max_length=64)]

    class CreateNote(Fields):                               # a body: pydantic's model, unknown fields refused
        text: Text = Field(max_length=2000, description="Plain text.")

    class NoteAnswer(Answer):                               # an answer: made of what the handler returns
        id: str
        text: str
        organization_id: Annotated[str, From("org_id")]     # another attribute of it, `a.b` too, or a function of it
        tags: Annotated[list[str], STORED]                  # JSON text, as the store keeps it
        updated_at: Time | None                             # milliseconds become RFC 3339

    @noun.post("/v1/notes", permission="note:write", answers=NoteAnswer, example={"text": "Pay Ada."})
    async def create_note(call: Call, body: CreateNote) -> NoteRow:
        \"""Create a note.

        The first line is the summary, the rest the description.\"""
        return await call.parts.notes.create(call.principal, body.text)

    @noun.get("/v1/notes/{id}", permission="note:read", answers=NoteAnswer, refusals=[Code.NOTE_UNKNOWN])
    async def get_note(call: Call, note_id: NoteId) -> NoteRow:
        \"""Get one note.\"""
        return await call.parts.notes.get(call.principal, note_id)

A parameter that the path names comes from the path, `body` is the body, a `Group` of parameters (`Paged`) and every
other one come from the query. From this are derived: the route with its admission, validation, replay and answer
(`api/endpoint.py`), its part of the OpenAPI document (`api/openapi.py`), and so the web client's types; how its answer
is encoded and weighed (`declaration/encoding.py`). `Operation` lists all options; `shape` makes by hand an answer that
no class can say.

To add a noun: this file, its service in `declaration/parts.py` and `app/api_parts.py`, and a call in
`tests/api/test_every_operation.py`. What needs the request itself, as a session's cookies, or answers in another way,
as streams, is in `api/routes`.
"""
