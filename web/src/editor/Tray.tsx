/** Below the canvas: the events of the run, and the ladder. It can be shut. */
import { useLocalStorage } from '@mantine/hooks'
import { Link } from 'wouter'
import type { Mode } from '../api/client'
import { useEffects } from '../api/queries'
import { Ladder, Warnings } from '../effects/Ladder'
import { MODES } from '../effects/rows'
import { useRungs } from '../effects/store'
import { runStatus } from '../model/fold'
import { Ended } from '../run/Ended'
import { Replay } from '../run/Replay'
import { useRunStore } from '../run/store'
import { Waiting } from '../run/Waiting'
import { words } from '../words'
import { select, useDocument } from './document'

const said = words.editor

export function Tray({ mode, isNarrow }: { mode: Mode; isNarrow: boolean }) {
  const [isShut, setIsShut] = useLocalStorage({
    key: 'dustrun-tray-shut',
    defaultValue: false,
    getInitialValueInEffect: false,
  })
  const rungs = useRungs((s) => s.rungs)
  const flow = useDocument((s) => s.flow)
  const selected = useDocument((s) => s.selected[0] ?? null)
  const hasAny = MODES.some((one) => rungs[one])
  const failed = useNotPassed()
  const open = useRunStore((s) => (s.isOpen ? s.runId : null))
  const ended = useRunStore((s) => (!s.isOpen && BAD.has(runStatus(s.events) ?? '') ? s.runId : null))
  return (
    <section className={`tray ${isShut ? 'shut' : ''}`} aria-label={said.tray}>
      <button type="button" className="handle" aria-expanded={!isShut} onClick={() => setIsShut(!isShut)}>
        {isShut ? said.showTray : said.hide}
      </button>
      {open && <Waiting runId={open} />}
      <Replay flow={flow} />
      {ended && (
        <Ended runId={ended} named={flow}>
          {(failed) => (
            <>
              {failed && (
                <button type="button" className="link" onClick={() => select([failed])}>
                  {words.outcomes.openStep}
                </button>
              )}
              <Link href={`/runs/${ended}`}>{words.outcomes.openRun}</Link>
            </>
          )}
        </Ended>
      )}
      {failed && <Warnings rungs={{ simulate: { ...failed, warnings: [] } }} flow={flow} />}
      {!isShut &&
        (hasAny ? (
          <>
            <Ladder
              rungs={rungs}
              flow={flow}
              modes={isNarrow ? [mode] : MODES}
              selected={selected}
              select={(id) => select([id])}
            />
            {mode !== 'simulate' && <Warnings rungs={{ [mode]: rungs[mode] }} flow={flow} />}
          </>
        ) : (
          !failed && !ended && <p className="quiet hintline">{said.noRun}</p>
        ))}
    </section>
  )
}

const BAD = new Set(['failure', 'partial', 'cancelled'])

/** The effects of the run that has just ended, if it did not pass: the ladder shows only those that have. */
function useNotPassed() {
  const runId = useRunStore((s) => s.runId)
  const isOpen = useRunStore((s) => s.isOpen)
  const effects = useEffects(isOpen ? null : runId).data
  return effects?.notPassed?.length ? effects : null
}
