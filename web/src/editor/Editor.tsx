/** The editor: canvas or list, inspector, tray, and everything that can be done with them. */

import { Modal, TextInput } from '@mantine/core'
import { useMediaQuery } from '@mantine/hooks'
import { useCallback, useEffect, useMemo, useState } from 'react'
import { type Mode, post, put, type Workflow } from '../api/client'
import { refresh, useCatalog, useMe } from '../api/queries'
import { Canvas } from '../canvas/Later'
import { useWrong } from '../canvas/wrong'
import { Balances } from '../effects/Balances'
import { Inspector } from '../inspector/Inspector'
import { Confirm } from '../parts/Confirm'
import { Page } from '../parts/Page'
import { Trouble } from '../parts/Trouble'
import { Contract } from '../paste/Contract'
import { usePaste } from '../paste/usePaste'
import { Steps } from '../run/Steps'
import { words } from '../words'
import { publishing } from '../words.publish'
import { AddStep } from './AddStep'
import { Conflict } from './Conflict'
import { ConnectTo } from './ConnectTo'
import { isDirty, load, select, takeIn, useDocument } from './document'
import { Acts, Title } from './Head'
import { type KeyActions, useEditorKeys } from './keys'
import { LiveDialog } from './LiveDialog'
import { readPayload, usePayload, usePayloadOf } from './Payload'
import { Published } from './Published'
import { useLadder, useLastRun, useRunning } from './running'
import { StepMenu } from './StepMenu'
import { Autosave, isSound, saveAll, useProblems } from './saving'
import { Tray } from './Tray'

const said = words.editor
type Dialog =
  | 'publish'
  | 'rename'
  | 'keys'
  | 'live'
  | { add: string | null; before?: string | undefined }
  | { connect: string }
  | { contract: string }
  | null

const isNewer = (one: Workflow, known: { version: number; updatedAt: string }) =>
  one.version > known.version || (one.version === known.version && one.updatedAt > known.updatedAt)

/** Takes in what the server has, unless something is being edited here. */
function useWorkflowOf(workflow: Workflow) {
  useEffect(() => {
    const s = useDocument.getState()
    if (s.id !== workflow.id) load(workflow)
    else if (s.conflict && workflow.version > s.conflict.version) useDocument.setState({ conflict: workflow })
    else if (isNewer(workflow, s) && !isDirty() && !s.isSaving && !s.conflict) takeIn(workflow)
  }, [workflow])
}

/** `?step=` chooses a step once: pages of runs lead to what mends a failed one. */
function useStepOfAddress() {
  useEffect(() => {
    const step = new URLSearchParams(location.search).get('step')
    if (step && useDocument.getState().flow.nodes[step]) select([step])
  }, [])
}

export function Editor({ workflow }: { workflow: Workflow }) {
  useWorkflowOf(workflow)
  const isLoaded = useDocument((s) => s.id === workflow.id)
  return isLoaded && <Loaded workflow={workflow} />
}

/** Only once the document is there: what was there before is neither drawn nor asked about. */
function Loaded({ workflow }: { workflow: Workflow }) {
  useLadder(workflow)
  const selected = useDocument((s) => s.selected)
  const problems = useProblems()
  const running = useRunning()
  const last = useLastRun(workflow, running.runId)
  usePayloadOf(workflow.id, last)
  const text = usePayload((s) => s.text)
  const [mode, setMode] = useState<Mode>('simulate')
  const [isList, setIsList] = useState(false)
  const [dialog, setDialog] = useState<Dialog>(null)
  const [error, setError] = useState<unknown>(null)
  const [renames, setRenames] = useState(0)
  const askContract = useCallback((contract: string) => setDialog({ contract }), [])
  const pasting = usePaste(askContract)
  const isNarrow = useMediaQuery('(max-width: 760px)', undefined, { getInitialValueInEffect: false }) ?? false
  useEffect(() => {
    const counts = Object.fromEntries(Object.entries(problems.byNode).map(([node, list]) => [node, list.length]))
    useWrong.setState({ counts })
  }, [problems])
  const payload = useMemo(() => readPayload(text), [text])
  const canRun = payload !== undefined && problems.all.length === 0
  const run = () => running.start(mode, payload)
  const go = async () => {
    if (payload === undefined || running.isRunning) return
    if (!(await isSound())) setError(new Error(said.mendFirst))
    else {
      setError(null)
      if (isNarrow) select([]) // the settings would lie over what it does
      if (mode === 'live') setDialog('live')
      else await run()
    }
  }
  const pause = async () => {
    const path = workflow.status === 'paused' ? '/v1/workflows/{id}/resume' : '/v1/workflows/{id}/pause'
    await post(path, { path: { id: workflow.id } }).catch(setError)
    await refresh('workflow', '/v1/workflows')
  }
  const addAt = useCallback((add: string, before?: string) => setDialog({ add, before }), [])
  const connectFrom = useCallback((connect: string) => setDialog({ connect }), [])
  const actions: KeyActions = {
    run: () => void go(),
    mode: setMode,
    add: (after) => setDialog({ add: after }),
    connect: (from) => setDialog({ connect: from }),
    rename: () => setRenames((times) => times + 1),
    keys: () => setDialog('keys'),
    paste: (text) => void pasting.take(text),
    copied: pasting.copied,
  }
  useEditorKeys(actions)
  useStepOfAddress()
  const one = selected.length === 1 ? selected[0] : undefined
  return (
    <Page
      title={workflow.name}
      className={`editor ${mode}`}
      name={<Title workflow={workflow} problems={problems} rename={() => setDialog('rename')} />}
      actions={
        <Acts
          workflow={workflow}
          mode={mode}
          setMode={setMode}
          go={() => void go()}
          cancel={running.cancel}
          isRunning={running.isRunning}
          canRun={canRun}
          add={() => setDialog({ add: one ?? lastStep() })}
          isList={isList}
          setIsList={setIsList}
          isNarrow={isNarrow}
          ask={setDialog}
          pause={pause}
        />
      }
    >
      <Autosave />
      <Conflict />
      <Trouble error={running.error ?? error} />
      {pasting.notice && (
        <p className="banner notice" role="status">
          {pasting.notice}{' '}
          <button type="button" className="link" onClick={pasting.clear}>
            {words.dialog.close}
          </button>
        </p>
      )}
      <div className="stage">
        {isNarrow || isList ? (
          <List />
        ) : (
          <>
            <Canvas />
            <Balances />
            <StepMenu add={addAt} connect={connectFrom} />
          </>
        )}
        {one && <Inspector key={one} id={one} problems={problems.byNode[one]} last={last} renames={renames} />}
      </div>
      <Tray mode={mode} isNarrow={isNarrow} />
      <Dialogs dialog={dialog} close={() => setDialog(null)} workflow={workflow} run={run} />
    </Page>
  )
}

const lastStep = () => Object.keys(useDocument.getState().flow.nodes).at(-1) ?? null

function List() {
  const flow = useDocument((s) => s.flow)
  const selected = useDocument((s) => s.selected[0] ?? null)
  const counts = useWrong((s) => s.counts)
  const catalog = useCatalog()
  return (
    <Steps
      flow={flow}
      catalog={catalog.data ?? {}}
      selected={selected}
      select={(id) => select([id])}
      problems={counts}
    />
  )
}

type DialogsProps = { dialog: Dialog; close: () => void; workflow: Workflow; run: () => Promise<unknown> }

function Dialogs({ dialog, close, workflow, run }: DialogsProps) {
  const catalog = useCatalog().data
  const spends = useDocument((s) => Object.values(s.flow.nodes).some((one) => catalog?.[one.type]?.effect === 'spend'))
  const [isPublished, setIsPublished] = useState(false)
  const publish = async () => {
    await saveAll()
    await post(
      '/v1/workflows/{id}/publish',
      { path: { id: workflow.id } },
      { expectedVersion: useDocument.getState().version },
    )
    await refresh('workflow', '/v1/workflows')
    setIsPublished(true)
  }
  return (
    <>
      {typeof dialog === 'object' && dialog && 'add' in dialog && (
        <AddStep after={dialog.add} before={dialog.before} close={close} />
      )}
      {typeof dialog === 'object' && dialog && 'contract' in dialog && (
        <Contract address={dialog.contract} close={close} />
      )}
      {typeof dialog === 'object' && dialog && 'connect' in dialog && <ConnectTo from={dialog.connect} close={close} />}
      <LiveDialog isOpen={dialog === 'live'} close={close} go={run} spends={spends} />
      <Confirm
        title={publishing.ask}
        isOpen={dialog === 'publish'}
        close={close}
        go={publishing.go}
        danger={false}
        act={publish}
      >
        {workflow.ladder.simulate ? <p>{publishing.simulated}</p> : <p className="banner">{publishing.notSimulated}</p>}
        <p>{workflow.triggerType === 'manual' ? publishing.manual : publishing.when}</p>
      </Confirm>
      <Published workflow={workflow} isOpen={isPublished} close={() => setIsPublished(false)} />
      {dialog === 'rename' && <Rename workflow={workflow} close={close} />}
      <Modal
        opened={dialog === 'keys'}
        onClose={close}
        title={said.keys}
        closeButtonProps={{ 'aria-label': words.dialog.close }}
      >
        <dl className="keys">
          {words.keyList.map(([key, what]) => (
            <div key={key}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
      </Modal>
    </>
  )
}

function Rename({ workflow, close }: { workflow: Workflow; close: () => void }) {
  const me = useMe().data
  const [name, setName] = useState(workflow.name)
  const [folder, setFolder] = useState(workflow.folder ?? '')
  const [tags, setTags] = useState(workflow.tags.join(' '))
  const mayPlace = me?.workflowIds === null
  const rename = async () => {
    const place = mayPlace ? { folder: folder.trim() || null, tags: tags.split(/[\s,]+/).filter(Boolean) } : {}
    await put('/v1/workflows/{id}', { path: { id: workflow.id } }, { name: name.trim(), ...place } as never)
    await refresh('workflow', '/v1/workflows')
  }
  return (
    <Confirm
      title={said.rename}
      isOpen
      close={close}
      go={words.dialog.save}
      danger={false}
      disabled={!name.trim()}
      act={rename}
    >
      <TextInput
        label={said.name}
        value={name}
        maxLength={100}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      {mayPlace && (
        <>
          <TextInput
            label={said.folder}
            description={said.folderAbout}
            value={folder}
            onChange={(event) => setFolder(event.currentTarget.value)}
          />
          <TextInput
            label={said.tags}
            description={said.tagsAbout}
            value={tags}
            onChange={(event) => setTags(event.currentTarget.value)}
          />
        </>
      )}
    </Confirm>
  )
}
