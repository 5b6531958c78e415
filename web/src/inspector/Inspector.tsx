/** Everything of one step: its settings, what it gave and got in the last run, and how it is connected. */

import { ActionIcon, Button, NativeSelect, Tabs, TextInput } from '@mantine/core'
import { IconLinkOff, IconTrash, IconX } from '@tabler/icons-react'
import { useEffect, useRef, useState } from 'react'
import { useShallow } from 'zustand/react/shallow'
import type { Json, Problem, Run } from '../api/client'
import { useCatalog } from '../api/queries'
import { edit, select, useDocument } from '../editor/document'
import { branchesOf, disconnect, patchNode, removeNodes } from '../editor/edits'
import { WhyStep } from '../effects/Why'
import { plain, readable } from '../model/amounts'
import { branchName, type FlowNode } from '../model/graph'
import { noOutput } from '../model/outcomes'
import { Badge } from '../parts/Badges'
import { Fault } from '../parts/Fault'
import { later } from '../parts/later'
import { Value } from '../parts/Value'
import { useRunStore } from '../run/store'
import { words } from '../words'
import { pages } from '../words.pages'
import { canBeTested, TestStep } from './TestStep'
import { TryTrigger } from './TryTrigger'
import { takeTab } from './tab'

const Form = later(() => import('./Form').then((module) => module.default))
const said = words.inspector
const NO_PROBLEMS: Problem[] = []
/** `renames`: how often a new name was asked for by its key, which goes to the field of the name. */
type Props = { id: string; problems?: Problem[] | undefined; last?: Run | null | undefined; renames: number }

const headOf = (node: FlowNode | undefined) => ({
  type: node?.type,
  titleOverride: node?.titleOverride,
  pinned: node?.pinned,
})

export function Inspector({ id, problems = NO_PROBLEMS, last, renames }: Props) {
  const [tab, setTab] = useState(takeTab)
  const [seen] = useState(renames)
  useEffect(() => {
    if (renames !== seen) setTab('flow')
  }, [renames, seen])
  // not its settings: a letter that is typed there is drawn by their form alone
  const node = useDocument(useShallow((s) => headOf(s.flow.nodes[id])))
  const state = useRunStore((s) => s.nodes[id])
  const spec = useCatalog().data?.[node.type ?? '']
  if (node.type === undefined) return null
  const isTrigger = spec !== undefined && spec.effect === undefined
  const kept = last?.executionState?.[id]
  const output = state?.result ?? kept?.result
  const name = node.titleOverride || readable(id)
  const error = state?.error ?? (state ? null : (kept?.error as { message?: string } | null | undefined))
  return (
    <aside className="inspector" aria-label={said.label(name)}>
      <header>
        <div>
          <strong dir="auto">{name}</strong>
          <span>{plain(spec?.summary ?? node.type)}</span>
          {node.pinned !== undefined && <Badge tone="sky">{words.test.pinned}</Badge>}
        </div>
        <ActionIcon variant="subtle" color="gray" aria-label={words.step.close} onClick={() => select([])}>
          <IconX size={16} />
        </ActionIcon>
      </header>
      {error?.message && <Fault error={error as Json} />}
      <Tabs value={tab} onChange={(value) => setTab(value ?? 'settings')} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="settings">{said.settings}</Tabs.Tab>
          <Tabs.Tab value="output">{said.output}</Tabs.Tab>
          <Tabs.Tab value="input">{said.input}</Tabs.Tab>
          {(isTrigger || canBeTested(spec)) && <Tabs.Tab value="test">{words.test.tab}</Tabs.Tab>}
          <Tabs.Tab value="flow">{said.flow}</Tabs.Tab>
          {spec?.effect === 'spend' && <Tabs.Tab value="why">{pages.why.tab}</Tabs.Tab>}
        </Tabs.List>
        <Tabs.Panel value="settings">
          <Form key={id} id={id} spec={spec} problems={problems} last={last} />
        </Tabs.Panel>
        <Tabs.Panel value="output">
          {output === undefined || output === null ? (
            <p className="quiet">
              {noOutput(state?.status ?? kept?.status)}{' '}
              {(state?.status ?? kept?.status) === 'failure' && (
                <button type="button" className="link" onClick={() => setTab('settings')}>
                  {words.outcomes.openSettings}
                </button>
              )}
            </p>
          ) : (
            <Value value={output} label={said.output} />
          )}
        </Tabs.Panel>
        <Tabs.Panel value="input">
          {kept?.input === undefined || kept.input === null ? (
            <p className="quiet">{words.step.noInput}</p>
          ) : (
            <Value value={kept.input} label={said.input} />
          )}
        </Tabs.Panel>
        <Tabs.Panel value="test">
          {isTrigger ? <TryTrigger id={id} /> : <TestStep id={id} spec={spec} last={last} />}
        </Tabs.Panel>
        <Tabs.Panel value="flow">
          <Behaviour id={id} renames={renames - seen} />
        </Tabs.Panel>
        <Tabs.Panel value="why">
          <WhyHere id={id} />
        </Tabs.Panel>
      </Tabs>
    </aside>
  )
}

/** What shapes the spend of a step of the draft that is saved. */
function WhyHere({ id }: { id: string }) {
  const saved = useDocument(useShallow((s) => ({ workflowId: s.id, version: s.version, seen: s.updatedAt })))
  const flow = useDocument((s) => s.flow)
  return <WhyStep id={id} flow={flow} {...saved} />
}

function Behaviour({ id, renames }: { id: string; renames: number }) {
  const name = useRef<HTMLInputElement>(null)
  useEffect(() => {
    if (renames) name.current?.select()
  }, [renames])
  const flow = useDocument((s) => s.flow)
  const catalog = useCatalog().data ?? {}
  const node = flow.nodes[id]
  if (!node) return null
  const parents = Object.values(flow.nodes).filter((one) => one.children?.includes(id))
  const branches = [...new Set(parents.flatMap((one) => branchesOf(one, catalog[one.type])))]
  const change = (part: Parameters<typeof patchNode>[2], key = '') => edit((f) => patchNode(f, id, part), key)
  const nameOf = (one: string) => flow.nodes[one]?.titleOverride || readable(one)
  return (
    <div className="form">
      <TextInput
        label={words.editor.renameStep}
        ref={name}
        placeholder={readable(id)}
        value={node.titleOverride ?? ''}
        onChange={(event) => change({ titleOverride: event.currentTarget.value || undefined }, `${id} title`)}
      />
      {(branches.length > 0 || node.branch) && (
        <NativeSelect
          label={said.onBranch}
          value={node.branch ?? ''}
          data={[
            { value: '', label: words.editor.always },
            ...[...new Set([...branches, ...(node.branch ? [node.branch] : [])])].map((value) => ({
              value,
              label: branchName(value),
            })),
          ]}
          onChange={(event) => change({ branch: event.currentTarget.value || undefined })}
        />
      )}
      <NativeSelect
        label={said.onError}
        value={String(node.onError ?? 'fail')}
        data={Object.entries(said.onErrorChoices).map(([value, label]) => ({ value, label }))}
        onChange={(event) =>
          change({ onError: event.currentTarget.value === 'fail' ? undefined : event.currentTarget.value })
        }
      />
      {(node.children ?? []).length > 0 && (
        <div>
          <div className="lab">{said.leadsTo}</div>
          {node.children?.map((child) => (
            <div key={child} className="leads">
              <span dir="auto">{nameOf(child)}</span>
              <ActionIcon
                variant="subtle"
                color="gray"
                aria-label={words.editor.disconnect(nameOf(child))}
                onClick={() => edit((f) => disconnect(f, id, child))}
              >
                <IconLinkOff size={16} />
              </ActionIcon>
            </div>
          ))}
        </div>
      )}
      <Button variant="default" leftSection={<IconTrash size={15} />} onClick={() => edit((f) => removeNodes(f, [id]))}>
        {words.editor.remove}
      </Button>
    </div>
  )
}
