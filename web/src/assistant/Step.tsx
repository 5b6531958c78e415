/** One call of a tool: closed it is a line, open it shows what was asked and what came back, as text. */
import { IconCheck, IconClock, IconLoader, IconX } from '@tabler/icons-react'
import { useState } from 'react'
import { Link } from 'wouter'
import { Value } from '../parts/Value'
import { assistant as said } from '../words.assistant'
import { type Part, placeOf, read } from './parts'

type Call = Extract<Part, { type: 'tool_call' }>
type Result = Extract<Part, { type: 'tool_result' }>
type State = keyof typeof said.state
const ICONS = { running: IconLoader, ok: IconCheck, bad: IconX, open: IconClock, cut: IconX }

export function Step({ call, result, state }: { call: Call; result?: Result; state: State }) {
  const [isOpen, setIsOpen] = useState(false)
  const Icon = ICONS[state]
  const place = placeOf(call.args)
  return (
    <details className={`toolcall ${state}`} open={isOpen} onToggle={(event) => setIsOpen(event.currentTarget.open)}>
      <summary>
        <Icon size={15} aria-hidden />
        <span>{said.tools[call.tool] ?? call.tool}</span>
        <small className="quiet" dir="auto">
          {brief(call.args)}
        </small>
        <small className="end">{said.state[state]}</small>
      </summary>
      {isOpen && (
        <div className="opened">
          <h3>{said.asked}</h3>
          <Value value={call.args} label={`${said.asked} (${call.callId})`} />
          {result && (
            <>
              <h3>{said.got}</h3>
              {result.hidden || result.content === null ? (
                <p className="quiet">{said.hidden}</p>
              ) : (
                <Value value={read(result.content)} label={`${said.got} (${call.callId})`} />
              )}
            </>
          )}
          {place && (
            <Link href={`/runs/${place.runId}${place.step ? `?step=${encodeURIComponent(place.step)}` : ''}`}>
              {place.step ? said.openStep(place.step) : said.openRun}
            </Link>
          )}
        </div>
      )}
    </details>
  )
}

/** The words that tell one call from the next. */
function brief(args: unknown): string {
  const known = (args ?? {}) as Record<string, unknown>
  const found = known.query ?? known.name ?? known.id ?? known.workflowId ?? known.runId ?? known.types
  return found === undefined || found === null ? '' : String(found).slice(0, 80)
}
