/** Somebody else has saved meanwhile: who changed what, and which of it is kept. Nothing is lost before one chooses. */
import { Button } from '@mantine/core'
import { useMemo } from 'react'
import type { Workflow } from '../api/client'
import { shown } from '../diff/changes'
import { readable } from '../model/amounts'
import type { Flow } from '../model/graph'
import { words } from '../words'
import { settle, useDocument } from './document'
import { clashesIn, mergeFlows } from './merging'

const said = words.editor
const MOST = 6

export function Conflict() {
  const conflict = useDocument((s) => s.conflict)
  return conflict && <Choice workflow={conflict} />
}

function Choice({ workflow }: { workflow: Workflow }) {
  const mine = useDocument((s) => s.flow)
  const base = useDocument((s) => s.saved.flow)
  const theirs = workflow.definition as Flow
  const merged = useMemo(() => mergeFlows(base, mine, theirs), [base, mine, theirs])
  const clashes = clashesIn(base, mine, theirs, merged.both).slice(0, MOST)
  const nameOf = (id: string) => (mine.nodes[id] ?? theirs.nodes[id])?.titleOverride || readable(id)
  const list = (ids: string[]) => ids.slice(0, MOST).map(nameOf).join(', ') + (ids.length > MOST ? ' …' : '')
  const hasMore = merged.mine.length + merged.theirs.length > 0
  const join = (isTheirs: boolean) =>
    settle(mergeFlows(base, mine, theirs, isTheirs).flow, merged.both.length ? (isTheirs ? mine : theirs) : undefined)
  const choices: [string, () => void, boolean][] = [
    [said.takeBoth, () => join(false), !merged.both.length],
    [said.takeBothMine, () => join(false), merged.both.length > 0 && hasMore],
    [said.takeBothTheirs, () => join(true), merged.both.length > 0 && hasMore],
    [said.takeMine, () => settle(mine, theirs), true],
    [said.takeTheirs, () => settle(theirs, mine), true],
  ]
  return (
    <div className="conflict" role="alert">
      <div>
        <p>
          <b>{said.conflict(workflow.version)}</b> {merged.mine.length > 0 && said.conflictMine(list(merged.mine))}{' '}
          {merged.theirs.length > 0 && said.conflictTheirs(list(merged.theirs))}{' '}
          {merged.both.length > 0 && said.conflictBoth(list(merged.both))}
        </p>
        {clashes.length > 0 && (
          <dl>
            {clashes.map((one) => (
              <div key={`${one.id} ${one.field}`}>
                <dt dir="auto">
                  {nameOf(one.id)}, {readable(one.field)}
                </dt>
                <dd dir="auto">{said.conflictField(shown(one.theirs), shown(one.mine))}</dd>
              </div>
            ))}
          </dl>
        )}
      </div>
      <div className="kept">
        {choices.map(
          ([name, act, isOffered], i) =>
            isOffered && (
              <Button key={name} size="xs" variant={i ? 'default' : 'filled'} onClick={act}>
                {name}
              </Button>
            ),
        )}
      </div>
    </div>
  )
}
