/** Somebody else has saved meanwhile: who changed what, and which of it is kept. Nothing is lost before one chooses. */
import { Button } from '@mantine/core'
import { readable } from '../model/amounts'
import { words } from '../words'
import { load, settle, useDocument } from './document'

const said = words.editor
const MOST = 6
const list = (ids: string[]) => ids.slice(0, MOST).map(readable).join(', ') + (ids.length > MOST ? ' …' : '')

export function Conflict() {
  const conflict = useDocument((s) => s.conflict)
  if (!conflict) return null
  const { both, mine, theirs, merged, workflow } = conflict
  return (
    <div className="conflict" role="alert">
      <p>
        <b>{said.conflict(workflow.version)}</b> {mine.length > 0 && said.conflictMine(list(mine))}{' '}
        {theirs.length > 0 && said.conflictTheirs(list(theirs))} {both.length > 0 && said.conflictBoth(list(both))}
      </p>
      <div>
        {!both.length && (
          <Button size="xs" onClick={() => settle(merged)}>
            {said.takeBoth}
          </Button>
        )}
        <Button size="xs" variant="default" onClick={() => settle(useDocument.getState().flow)}>
          {said.takeMine}
        </Button>
        <Button size="xs" variant="default" onClick={() => load(workflow, true)}>
          {said.takeTheirs}
        </Button>
      </div>
    </div>
  )
}
