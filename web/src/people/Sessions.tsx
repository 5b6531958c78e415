/** Sessions of one person, each of which can be ended by itself. */
import { Button } from '@mantine/core'
import { useState } from 'react'
import { del, type Schemas } from '../api/client'
import { refresh, useList } from '../api/queries'
import { Badge } from '../parts/Badges'
import { Section } from '../parts/Section'
import { type Column, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { people as said } from '../words.people'

type Session = Schemas['PersonSessionAnswer']

const columnsOf = (end: (one: Session) => void): Column<Session>[] => [
  {
    title: said.started,
    cell: (row) => (
      <>
        <strong>
          <Time at={row.createdAt} /> {row.current && <Badge tone="ok">{said.current}</Badge>}
        </strong>
        <small>{row.id}</small>
      </>
    ),
  },
  { title: said.seen, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.seenAt} /> },
  {
    title: said.end,
    width: '70px',
    align: 'end',
    cell: (row) => (
      <Button size="compact-xs" variant="default" aria-label={said.endOf(row.id)} onClick={() => end(row)}>
        {said.end}
      </Button>
    ),
  },
]

/** `person`: whose they are; the reader's own without. */
export function Sessions({ person }: { person?: string }) {
  const [error, setError] = useState<unknown>(null)
  const own = useList('/v1/sessions', {}, {}, !person)
  const theirs = useList('/v1/people/{id}/sessions', {}, { id: person ?? '' }, Boolean(person))
  const end = async ({ id }: Session) => {
    setError(null)
    try {
      if (person) await del('/v1/people/{id}/sessions/{session}', { path: { id: person, session: id } })
      else await del('/v1/sessions/{id}', { path: { id } })
      await refresh('/v1/sessions', '/v1/people/{id}/sessions', '/v1/people', '/v1/me')
    } catch (problem) {
      setError(problem)
    }
  }
  return (
    <Section title={person ? said.sessions : said.own} about={person ? undefined : said.ownAbout}>
      <Trouble error={error} />
      <Table
        label={person ? said.sessions : said.own}
        columns={columnsOf(end)}
        found={person ? theirs : own}
        keyOf={(row) => row.id}
        empty={<p className="quiet body">{said.noSession}</p>}
      />
    </Section>
  )
}
