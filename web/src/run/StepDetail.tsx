/** What went into a step and what came out of it, each attempt by itself. */
import { ActionIcon, Tabs } from '@mantine/core'
import { IconX } from '@tabler/icons-react'
import type { Json, Run } from '../api/client'
import { readable } from '../model/amounts'
import { NodeStatus } from '../parts/Badges'
import { Time, took } from '../parts/Time'
import { Value } from '../parts/Value'
import { words } from '../words'
import { useRunStore } from './store'

const said = words.step

export function StepDetail({ id, run, close }: { id: string; run: Run; close: () => void }) {
  const live = useRunStore((s) => s.nodes[id])
  const kept = run.executionState?.[id]
  const result = kept?.result ?? live?.result
  const error = (kept?.error ?? live?.error) as Json | null | undefined
  const attempts = (kept?.attempts ?? []) as Json[]
  const items = (kept?.iterations ?? []) as Json[]
  const title = (run.workflowDefinition as { nodes?: Record<string, { titleOverride?: string }> } | null)?.nodes?.[id]
  return (
    <aside className="inspector" aria-label={id}>
      <header>
        <div>
          <strong dir="auto">{title?.titleOverride || readable(id)}</strong>
          <span>
            <code>{id}</code> {kept?.type} {live && <NodeStatus status={live.status} branch={live.branch} />}{' '}
            {took(kept?.startedAt, kept?.finishedAt)}
          </span>
        </div>
        <ActionIcon variant="subtle" color="gray" aria-label={said.close} onClick={close}>
          <IconX size={16} />
        </ActionIcon>
      </header>
      {error && (
        <p className="fault" role="alert">
          {String(error.message ?? error.code)}
        </p>
      )}
      <Tabs defaultValue="output" keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="output">{said.output}</Tabs.Tab>
          <Tabs.Tab value="input">{said.input}</Tabs.Tab>
          {attempts.length > 1 && <Tabs.Tab value="attempts">{said.attempts}</Tabs.Tab>}
          {items.length > 0 && <Tabs.Tab value="items">{said.items}</Tabs.Tab>}
        </Tabs.List>
        <Tabs.Panel value="output">
          {result === undefined || result === null ? (
            <p className="quiet">{live?.resultOmitted ? said.tooLarge : said.noOutput}</p>
          ) : (
            <Value value={result} label={said.output} />
          )}
        </Tabs.Panel>
        <Tabs.Panel value="input">
          {kept?.input === undefined || kept.input === null ? (
            <p className="quiet">{said.noInput}</p>
          ) : (
            <Value value={kept.input} label={said.input} />
          )}
        </Tabs.Panel>
        <Tabs.Panel value="attempts">
          {attempts.map((attempt, i) => (
            <section key={i} className="attempt">
              <h3>
                {said.attempt(Number(attempt.attempt ?? i + 1))} <Time at={attempt.startedAt as string} />
              </h3>
              <Value value={attempt} label={said.attempt(i + 1)} />
            </section>
          ))}
        </Tabs.Panel>
        <Tabs.Panel value="items">
          <Value value={items} label={said.items} />
        </Tabs.Panel>
      </Tabs>
    </aside>
  )
}
