/** Pins a result: from then on, simulations of the workflow use it in the place of what the step would do. */
import { Button } from '@mantine/core'
import { IconPin, IconPinnedOff } from '@tabler/icons-react'
import { useState } from 'react'
import { get, put, type Run } from '../api/client'
import { refresh, useCatalog } from '../api/queries'
import { patchNode } from '../editor/edits'
import type { Flow } from '../model/graph'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'

const said = words.pin
/** What decides a way has a pin of another form, which its settings offer. */
const PINNED = new Set(['pure', 'read', 'write', 'spend'])
export const canBePinned = (type: string, effect?: string) => type === 'call-workflow' || PINNED.has(effect ?? '')

type Props = { run: Run; id: string; result: unknown }

export function PinButton({ run, id, result }: Props) {
  const type = (run.workflowDefinition as Flow | null)?.nodes[id]?.type ?? ''
  const spec = useCatalog().data?.[type]
  const [isPinned, setPinned] = useState(false)
  const [isBusy, setBusy] = useState(false)
  const [error, setError] = useState<unknown>(null)
  if (!run.workflowId || !canBePinned(type, spec?.effect)) return null
  const write = async (pinned: unknown) => {
    setBusy(true)
    setError(null)
    try {
      await pin(run.workflowId, id, type, pinned)
      setPinned(pinned !== undefined)
    } catch (problem) {
      setError(problem)
    } finally {
      setBusy(false)
    }
  }
  return (
    <div className="pinbar">
      {isPinned ? (
        <>
          <span role="status">{said.done}</span>
          <Button
            size="compact-sm"
            variant="default"
            loading={isBusy}
            leftSection={<IconPinnedOff size={14} />}
            onClick={() => write(undefined)}
          >
            {said.undo}
          </Button>
        </>
      ) : (
        <Button
          size="compact-sm"
          variant="default"
          loading={isBusy}
          leftSection={<IconPin size={14} />}
          title={said.about}
          onClick={() => write(result)}
        >
          {said.pin}
        </Button>
      )}
      <Trouble error={error} />
    </div>
  )
}

/** In the newest version of the workflow, provided that the step is still there and of the same type. */
async function pin(workflowId: string, id: string, type: string, pinned: unknown) {
  const workflow = await get('/v1/workflows/{id}', { path: { id: workflowId } })
  const flow = workflow.definition as Flow
  if (flow.nodes[id]?.type !== type) throw new Error(said.gone)
  const body = { definition: patchNode(flow, id, { pinned }), expectedCurrentVersion: workflow.version }
  await put('/v1/workflows/{id}', { path: { id: workflowId } }, body as never)
  await refresh('workflow', '/v1/workflows')
}
