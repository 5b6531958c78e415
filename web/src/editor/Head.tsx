/** The head of the editor: what it is, whether it is saved and right, and the button that names what it does. */
import { ActionIcon, Button, Menu, Popover, SegmentedControl, Tooltip } from '@mantine/core'
import {
  IconArrowBackUp,
  IconArrowForwardUp,
  IconBoxMultiple,
  IconDots,
  IconDownload,
  IconForms,
  IconGitCompare,
  IconHistory,
  IconList,
  IconNote,
  IconPencil,
  IconPlayerPause,
  IconPlayerPlay,
  IconPlayerPlayFilled,
  IconPlayerStop,
  IconPlus,
  IconRocket,
  IconSitemap,
} from '@tabler/icons-react'
import { useLocation } from 'wouter'
import { get, type Mode, type Workflow } from '../api/client'
import { WorkflowStatus } from '../parts/Badges'
import { words } from '../words'
import { forms } from '../words.forms'
import { versions } from '../words.versions'
import { isDirty, redo, select, undo, useDocument } from './document'
import { addNote, groupChosen } from './keys'
import { PayloadButton } from './Payload'
import type { Problems } from './saving'

const said = words.editor
const MODES = (['simulate', 'dust', 'live'] as const).map((value) => ({ value, label: words.mode[value] }))

type TitleProps = { workflow: Workflow; problems: Problems; rename: () => void }

export function Title({ workflow, problems, rename }: TitleProps) {
  const version = useDocument((s) => s.version)
  return (
    <>
      <h1 dir="auto">
        <button type="button" className="plain" onClick={rename} title={said.rename}>
          {workflow.name}
        </button>
      </h1>
      <span className="chip">
        {workflow.liveVersion === version ? words.workflows.live(version) : words.workflows.draft(version)}
      </span>
      {workflow.status !== 'draft' && <WorkflowStatus status={workflow.status} />}
      {problems.all.length > 0 && <ProblemList problems={problems} />}
      <Saved />
    </>
  )
}

function ProblemList({ problems }: { problems: Problems }) {
  return (
    <Popover position="bottom-start" width={380} shadow="md">
      <Popover.Target>
        <button type="button" className="chip bad">
          {said.problems(problems.all.length)}
        </button>
      </Popover.Target>
      <Popover.Dropdown aria-label={said.problemList}>
        <ul className="problems">
          {problems.all.map((one, i) => (
            <li key={i}>
              <button type="button" className="link" onClick={() => one.nodeId && select([one.nodeId])}>
                {one.nodeId ?? one.field ?? one.code}
              </button>{' '}
              {one.message.split('\n')[0]}
            </li>
          ))}
        </ul>
      </Popover.Dropdown>
    </Popover>
  )
}

function Saved() {
  const isSaving = useDocument((s) => s.isSaving)
  const error = useDocument((s) => s.error)
  const dirty = useDocument((s) => isDirty(s))
  const text = error ? said.notSaved : isSaving ? said.saving : dirty ? said.unsaved : said.saved
  return (
    <span
      className={`saved ${error ? 'bad' : ''}`}
      role="status"
      title={error instanceof Error ? error.message : undefined}
    >
      {text}
    </span>
  )
}

type ActsProps = {
  workflow: Workflow
  mode: Mode
  setMode: (mode: Mode) => void
  go: () => void
  cancel: () => void
  isRunning: boolean
  canRun: boolean
  add: () => void
  isList: boolean
  setIsList: (isList: boolean) => void
  isNarrow: boolean
  ask: (what: 'publish' | 'rename') => void
  pause: () => void
}

export function Acts(props: ActsProps) {
  const { workflow, mode, setMode, go, cancel, isRunning, canRun, add, isList, setIsList, isNarrow, ask } = props
  const canUndo = useDocument((s) => s.past.length > 0)
  const canRedo = useDocument((s) => s.future.length > 0)
  return (
    <>
      <Tool label={said.undo} icon={<IconArrowBackUp size={18} />} act={undo} disabled={!canUndo} />
      <Tool label={said.redo} icon={<IconArrowForwardUp size={18} />} act={redo} disabled={!canRedo} />
      {isNarrow ? (
        <Tool label={said.add} icon={<IconPlus size={18} />} act={add} />
      ) : (
        <Button variant="default" leftSection={<IconPlus size={16} />} onClick={add}>
          {said.add}
        </Button>
      )}
      {!isNarrow && (
        <Tool
          label={isList ? said.graph : said.outline}
          icon={isList ? <IconSitemap size={18} /> : <IconList size={18} />}
          act={() => setIsList(!isList)}
        />
      )}
      <PayloadButton />
      <MoreMenu {...props} />
      <SegmentedControl
        className="modes"
        data={MODES}
        value={mode}
        onChange={(value) => setMode(value as Mode)}
        aria-label={said.mode}
      />
      {isRunning ? (
        <Button variant="default" leftSection={<IconPlayerStop size={14} />} onClick={cancel}>
          {said.stop}
        </Button>
      ) : (
        <Button
          className={`go ${mode}`}
          {...(!isNarrow && mode === 'simulate' && workflow.ladder.simulate && workflow.hasDraft
            ? { variant: 'default' }
            : {})}
          leftSection={<IconPlayerPlayFilled size={14} />}
          onClick={go}
          disabled={!canRun}
        >
          {words.go[mode]}
        </Button>
      )}
      {workflow.hasDraft && !isNarrow && (
        <Button
          variant={workflow.ladder.simulate ? 'filled' : 'default'}
          leftSection={<IconRocket size={16} />}
          onClick={() => ask('publish')}
        >
          {said.publish}
        </Button>
      )}
    </>
  )
}

type ToolProps = { label: string; icon: React.ReactNode; act: () => void; disabled?: boolean }

function Tool({ label, icon, act, disabled }: ToolProps) {
  return (
    <Tooltip label={label}>
      <ActionIcon variant="subtle" color="gray" size={36} aria-label={label} onClick={act} disabled={disabled}>
        {icon}
      </ActionIcon>
    </Tooltip>
  )
}

function MoreMenu({ workflow, ask, pause, isNarrow }: ActsProps) {
  const hasChosen = useDocument((s) => s.selected.length > 0)
  const [, go] = useLocation()
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" size={36} aria-label={said.more}>
          <IconDots size={18} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {workflow.hasDraft && isNarrow && (
          <Menu.Item leftSection={<IconRocket size={16} />} onClick={() => ask('publish')}>
            {said.publish}
          </Menu.Item>
        )}
        {workflow.status === 'active' && (
          <Menu.Item leftSection={<IconPlayerPause size={16} />} onClick={pause}>
            {said.pause}
          </Menu.Item>
        )}
        {workflow.status === 'paused' && (
          <Menu.Item leftSection={<IconPlayerPlay size={16} />} onClick={pause}>
            {said.resume}
          </Menu.Item>
        )}
        <Menu.Item leftSection={<IconPencil size={16} />} onClick={() => ask('rename')}>
          {said.rename}
        </Menu.Item>
        <Menu.Item leftSection={<IconHistory size={16} />} onClick={() => go(`/runs?workflow=${workflow.id}`)}>
          {said.runs}
        </Menu.Item>
        {workflow.version > 1 && (
          <Menu.Item
            leftSection={<IconGitCompare size={16} />}
            onClick={() => go(`/workflows/${workflow.id}/versions`)}
          >
            {versions.open}
          </Menu.Item>
        )}
        <Menu.Item leftSection={<IconNote size={16} />} onClick={addNote}>
          {said.addNote}
        </Menu.Item>
        <Menu.Item leftSection={<IconBoxMultiple size={16} />} disabled={!hasChosen} onClick={groupChosen}>
          {said.groupChosen}
        </Menu.Item>
        <Menu.Item leftSection={<IconForms size={16} />} onClick={() => go(`/workflows/${workflow.id}/forms`)}>
          {forms.title}
        </Menu.Item>
        <Menu.Item leftSection={<IconDownload size={16} />} onClick={() => void download(workflow.id)}>
          {said.export}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  )
}

/** The draft that is saved, as the file that an import takes. */
async function download(id: string) {
  const { content, fileName } = await get('/v1/workflows/{id}/export', { path: { id } })
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([content], { type: 'application/json' }))
  link.download = fileName
  link.click()
  URL.revokeObjectURL(link.href)
}
